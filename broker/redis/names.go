package redis

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Channel names in Redis are PREFIX:{PARTITION}:CHANNEL, and PREFIX:{PARTITION}!INSTANCE for probes. In a Redis Cluster
// the braces make the partition alone decide the slot, so that all channels of a partition live on one server and one
// connection can subscribe to all of them. All nodes of a barrage cluster must use the same prefix and number of
// partitions.

func parameterNames() []string { return slices.Sorted(maps.Keys(parameters)) }

// partitionOf returns the partition of a channel.
func partitionOf(channel string, partitions int) int {
	if partitions == 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(channel))
	return int(h.Sum32() % uint32(partitions))
}

// channelPrefix stands before the names of all channels of a partition.
func channelPrefix(prefix string, partition int) string {
	return prefix + ":{" + strconv.Itoa(partition) + "}:"
}

// probeName is the channel on which an instance hears itself.
func probeName(prefix string, partition int, instance string) string {
	return strings.TrimSuffix(channelPrefix(prefix, partition), ":") + "!" + instance
}
