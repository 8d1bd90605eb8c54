package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"barrage/config"
	"barrage/httpapi/apikey"
	"barrage/httpapi/serverapi"
	"barrage/node"
	"barrage/proto"
)

// serverAPI is the server API of a node, with its own server when it has an address of its own.
type serverAPI struct {
	api    *serverapi.API
	listen string       // empty without an address of its own
	http   *http.Server // nil without
	tls    *tls.Config  // nil without TLS
}

// apiKeys opens the keys that the settings name.
func apiKeys(c config.API, log *slog.Logger) (*apikey.Ring, error) {
	fixed, err := apikey.ParseList(c.Keys)
	if err != nil {
		return nil, err
	}
	return apikey.Open(fixed, c.KeysFile, log)
}

// openServerAPI makes the server API of the node. It does not serve yet.
func (s *server) openServerAPI(r prometheus.Registerer) {
	a := &serverAPI{listen: s.cfg.API.Listen, tls: s.tlsConfig()}
	a.api = serverapi.New(serverapi.Options{
		Backend: s.backend(), Keys: s.apiKeys, Body: int64(s.cfg.API.Body), Address: s.gateway.ClientAddr, Log: s.log,
	})
	a.api.Collect(r)
	if a.listen != "" {
		a.http = &http.Server{
			Handler: s.apiHandler(a.api), MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute,
			ReadTimeout: s.cfg.Limits.Handshake, WriteTimeout: s.cfg.Limits.Handshake + s.cfg.Limits.Write,
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
	}
	s.server = a
}

// apiHandler is the handler of the API's own address. Where other machines reach that, they may use any name: they have keys.
func (s *server) apiHandler(api *serverapi.API) http.Handler {
	mux := http.NewServeMux()
	api.Register(mux)
	if s.cfg.TrustsItsMachine(s.cfg.API.Listen) {
		return s.gateway.Guard(mux)
	}
	return mux
}

// backend is what the node can do for the server API.
func (s *server) backend() serverapi.Backend {
	return serverapi.Backend{
		Messages: s.node, Presence: s.node, Eraser: s.node, Users: s.node,
		Channels: serverapi.ChannelsFunc(func(pattern string, done func(serverapi.ChannelList, *proto.Error)) {
			s.node.Channels(pattern, func(l node.ChannelList, err *proto.Error) { done(serverapi.ChannelList(l), err) })
		}),
		Nodes: serverapi.NodesFunc(func(done func([]serverapi.NodeInfo, []string)) {
			var list []serverapi.NodeInfo
			for _, n := range s.node.Cluster() {
				list = append(list, serverapi.NodeInfo{
					UID: n.ID, Name: n.Name, Version: n.Version, Uptime: int64(n.Uptime / time.Second),
					NumClients: n.Connections, NumUsers: n.Users, NumChannels: n.Channels,
				})
			}
			done(list, nil)
		}),
	}
}

// serve serves on the API's own address, if it has one. failed hears when that ends.
func (a *serverAPI) serve(ctx context.Context, failed chan<- error) error {
	if a.http == nil {
		return nil
	}
	l, err := listen(ctx, a.listen)
	if err != nil {
		return fmt.Errorf("api.listen: %w", err)
	}
	if a.tls != nil {
		l = tls.NewListener(l, a.tls)
	}
	go func() {
		if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("%s: %w", l.Addr(), err)
		}
	}()
	return nil
}

// close ends what serve began.
func (a *serverAPI) close() error {
	if a.http == nil {
		return nil
	}
	return shutdown(a.http)
}

// answerWait is how long requests under way may still be answered when a node ends.
const answerWait = 3 * time.Second

// shutdown lets requests under way be answered, and then ends h.
func shutdown(h *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWait)
	defer cancel()
	if h.Shutdown(ctx) == nil {
		return nil
	}
	return h.Close()
}

func newOpenAPI() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "openapi",
		Short: "Write the OpenAPI document of the server API (docs/openapi.json)",
		Args:  noArgs,
	}
	file := cmd.Flags().StringP("output", "o", "", "write to `FILE` instead of standard output")
	cmd.RunE = work(func(cmd *cobra.Command, _ []string) error {
		if *file == "" {
			_, err := cmd.OutOrStdout().Write(serverapi.Document())
			return err
		}
		return os.WriteFile(*file, serverapi.Document(), 0o644)
	})
	return cmd
}
