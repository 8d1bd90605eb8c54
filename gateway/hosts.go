package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"barrage/ws"
)

// Hosts are the names that a node without authentication is asked by. Such a node trusts everyone who can reach it: the programs of its
// own machine. A page of another site reaches it too once the site's name points to 127.0.0.1 (DNS rebinding). To the browser the node
// then is the page's own server: the page may read every answer, and the origin that it sends, if it sends one, fits. What it cannot
// change is that name in Host.
//
// Hosts never change. Nil has every name.
type Hosts struct {
	all   bool
	names map[string]bool // in small letters, without a dot at the end
}

// OwnHosts are the names of the machine itself, to which nobody else can give an address: IP addresses, localhost, and names under
// .localhost (RFC 6761, section 6.3). The host that a node listens on is one of them, because without authentication the settings accept no
// other. To these come the hosts of origins of http and https; "*" stands for every name.
func OwnHosts(origins []string) *Hosts {
	h := &Hosts{names: map[string]bool{"localhost": true}}
	for _, origin := range origins {
		if origin == "*" {
			h.all = true
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			continue // the host of another origin, such as that of a browser's extension, is no name of a node
		}
		if name, ok := hostName(u.Host); ok {
			h.names[name] = true
		}
	}
	return h
}

// Has says whether a node of these names answers a request for host, the value of the field Host. The port does not matter.
func (h *Hosts) Has(host string) bool {
	if h == nil || h.all {
		return true
	}
	name, ok := hostName(host)
	if !ok {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil || h.names[name] || strings.HasSuffix(name, ".localhost")
}

// hostForm is what browsers write into Host: an address of IPv6 in brackets, or a name or an address of IPv4; then the port, unless it is the
// scheme's own. They write names in ASCII.
var hostForm = regexp.MustCompile(`^(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z_][0-9A-Za-z._-]*?)\.?)(?::[0-9]*)?$`)

// hostName is the name or the address in a host: in small letters, without brackets, port, and dot at the end. It reports false when host
// has another form.
func hostName(host string) (name string, ok bool) {
	found := hostForm.FindStringSubmatch(host)
	if found == nil {
		return "", false
	}
	return strings.ToLower(found[1] + found[2]), true
}

// Guard answers a request for a name that is not among Options.Hosts itself, and gives the others to next. The gateway guards its own
// paths by itself; everything else that tells or changes something belongs behind this.
func (g *Gateway) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.misdirected(r); err != nil {
			answer(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// misdirected is the refusal of a request for a name that is not the node's; nil for one that is. RFC 9110, section 15.5.20: the status
// is for a server that was not set up to speak for the host of the request.
func (g *Gateway) misdirected(r *http.Request) *ws.HandshakeError {
	if g.Hosts.Has(r.Host) {
		return nil
	}
	g.stats.Misdirected.Add(1)
	g.strange.Do(func() {
		g.Log.Warn("requests for a name that is not this machine's are refused, because there is no authentication; "+
			"if it is this node's, add https:// and the name to the setting origins, or set auth.secret", "host", r.Host[:min(len(r.Host), maxName)])
	})
	advice := "the origin of its pages"
	if name, ok := hostName(r.Host); ok && len(name) <= maxName {
		advice = "https://" + name
	}
	return &ws.HandshakeError{
		Status:  http.StatusMisdirectedRequest,
		Message: fmt.Sprintf("this node has no authentication and answers only to its own machine's names; add %s to the setting origins, or set auth.secret", advice),
	}
}
