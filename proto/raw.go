package proto

// RawToData returns the data of a message for a text of /raw: the text as a JSON string. Text should be valid UTF-8,
// as every text frame is; each byte that is not becomes U+FFFD. The result does not alias text.
func RawToData(text []byte) []byte {
	return AppendJSONString(make([]byte, 0, len(text)+len(`""`)), text)
}

// AppendRawText appends what /raw sends for the data of a message: the text of a JSON string, and every other JSON
// value as it is. It is the inverse of RawToData for every text that is valid UTF-8.
func AppendRawText(dst, data []byte) []byte {
	if len(data) == 0 || data[0] != '"' {
		return append(dst, data...)
	}
	s := scanner{b: data}
	raw, escaped, err := s.text()
	if err != nil || s.pos != len(data) {
		return append(dst, data...) // not JSON: the channel holds what no protocol accepts
	}
	if escaped {
		dst, _ = appendUnescaped(dst, raw)
		return dst
	}
	return append(dst, raw...)
}
