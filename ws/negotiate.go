package ws

// Deflate is the name of the extension permessage-deflate. RFC 7692, section 7.
const Deflate = "permessage-deflate"

// AcceptDeflate finds the first offer of permessage-deflate that can be accepted, and returns the value of
// Sec-WebSocket-Extensions that accepts it. ok is false when there is none; the connection then goes on without.
//
// Neither side keeps its window from message to message, whether the client asked for that or not: a broadcast is deflated
// once for all its receivers, and an idle connection holds no window. Windows are those of DEFLATE, 32 KiB. An offer is
// declined, and the next one looked at, if its parameters are unknown, given twice or have wrong values, or if it limits
// the server's window to less. RFC 7692, sections 5.1, 7 and 7.1.
func AcceptDeflate(offers []Extension) (response string, ok bool) {
	for _, offer := range offers {
		if offer.Name != Deflate {
			continue
		}
		if response, ok := acceptOffer(offer.Params); ok {
			return response, true
		}
	}
	return "", false
}

// acceptOffer judges the parameters of one offer by section 7.1.
func acceptOffer(params []Param) (response string, ok bool) {
	response = Deflate + "; server_no_context_takeover; client_no_context_takeover"
	for i, p := range params {
		for _, earlier := range params[:i] {
			if earlier.Name == p.Name { // section 7: "multiple extension parameters with the same name"
				return "", false
			}
		}
		switch p.Name {
		case "server_no_context_takeover", "client_no_context_takeover": // sections 7.1.1.1 and 7.1.1.2
			if p.Value != "" {
				return "", false
			}
		case "server_max_window_bits": // section 7.1.2.1: the answer must repeat it or give fewer
			if p.Value != "15" {
				return "", false
			}
			response += "; server_max_window_bits=15"
		case "client_max_window_bits": // section 7.1.2.2: a hint, which need not be answered
			if p.Value != "" && !windowBits(p.Value) {
				return "", false
			}
		default:
			return "", false
		}
	}
	return response, true
}

// windowBits says whether value is a whole number from 8 to 15 without leading zeros: section 7.1.2.
func windowBits(value string) bool {
	switch value {
	case "8", "9", "10", "11", "12", "13", "14", "15":
		return true
	}
	return false
}
