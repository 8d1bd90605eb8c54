package ws

import (
	"fmt"
	"net/url"
	"strings"
)

// OriginAllowed says whether a page of this origin may connect. RFC 6455, section 10.2: without this check any page
// could act for its visitor.
//
// No origin at all is allowed: the client is not a browser. So is a page of the server itself: http or https, with the
// host and port of the Host field. Every other origin must be in the list, as scheme://host[:port]; "*" there allows
// all. Letters may be of any case, and a port may be left out when it is the scheme's own. "null", the origin of pages
// that have none, such as local files and sandboxed frames, must be in the list, or "*".
func OriginAllowed(origin, host string, allowed []string) bool {
	if origin == "" {
		return true
	}
	scheme, from, ok := splitOrigin(origin)
	if ok && (scheme == "http" || scheme == "https") && from == withoutPort(scheme, strings.ToLower(host)) {
		return true
	}
	for _, entry := range allowed {
		if entry == "*" || strings.EqualFold(entry, origin) {
			return true
		}
		if s, h, is := splitOrigin(entry); ok && is && s == scheme && h == from {
			return true
		}
	}
	return false
}

// CheckOriginEntry says what is wrong with an entry of the list of OriginAllowed, if anything.
func CheckOriginEntry(entry string) error {
	if entry == "*" || entry == "null" {
		return nil
	}
	if _, _, ok := splitOrigin(entry); !ok {
		return fmt.Errorf("the origin %q is not of the form scheme://host or scheme://host:port, such as https://example.com, nor \"*\" or \"null\"", entry)
	}
	return nil
}

// splitOrigin returns the scheme of an origin and its host, with the port unless that is the scheme's own, in small
// letters. RFC 6454, section 7.
func splitOrigin(origin string) (scheme, host string, ok bool) {
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		return "", "", false
	}
	if u.Path != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(origin, "#") {
		return "", "", false
	}
	return u.Scheme, withoutPort(u.Scheme, u.Host), true
}

// withoutPort removes the port from a host when it is the scheme's own.
func withoutPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}
