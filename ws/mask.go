package ws

import (
	"encoding/binary"
	"math/bits"
)

// Mask masks or unmasks b in place; b begins pos bytes into the payload of its frame. RFC 6455, section 5.3: byte i of
// the payload is combined with byte i mod 4 of the key by exclusive or.
func Mask(key [4]byte, pos int, b []byte) {
	// The key from its byte pos%4 on: as a little endian number its first byte is the lowest.
	k32 := bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(pos&3))
	k := uint64(k32)<<32 | uint64(k32)
	for len(b) >= 32 {
		p := (*[32]byte)(b)
		binary.LittleEndian.PutUint64(p[0:], binary.LittleEndian.Uint64(p[0:])^k)
		binary.LittleEndian.PutUint64(p[8:], binary.LittleEndian.Uint64(p[8:])^k)
		binary.LittleEndian.PutUint64(p[16:], binary.LittleEndian.Uint64(p[16:])^k)
		binary.LittleEndian.PutUint64(p[24:], binary.LittleEndian.Uint64(p[24:])^k)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b { // fewer than 8
		b[i] ^= byte(k)
		k >>= 8
	}
}
