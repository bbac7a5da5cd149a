package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"imgbuild/fault"
)

func newServe() *cobra.Command {
	address := ""
	cmd := &cobra.Command{
		Use:   "serve [flags] DIR",
		Short: "Serve a directory over HTTP, to start machines from it",
		Long: `Serve the files below DIR over HTTP until it is interrupted: for trying out what
--type pxe and --type pxe-tar-xz have written. Each request is one line on stderr.

It listens on this machine only; --listen :8000 lets all of the network read the files.`,
		Example: `  imgbuild --type pxe registry.example.com/os:1
  imgbuild serve --listen :8000 pxe
  iPXE> chain http://ADDRESS:8000/boot.ipxe`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fault.New(fault.Usage, fmt.Errorf("%d directories given, want one", len(args)), "imgbuild serve pxe")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return serve(cmd.Context(), address, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8000", "address and port; port 0 is a free one")
	return cmd
}

// serve serves a directory until ctx ends. The URL is printed once it answers.
func serve(ctx context.Context, address, dir string, stdout, stderr io.Writer) error {
	// Nothing outside of the directory can be reached, by whatever link.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("serve: %w", err), "name a directory, such as the pxe below --output")
	}
	defer root.Close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("serve: %w", err), "choose another address with --listen, such as 127.0.0.1:0")
	}
	server := &http.Server{
		Handler:           &fileServer{root: root, log: stderr},
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	fmt.Fprintf(stdout, "http://%s/\n", l.Addr())
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.New(fault.Internal, fmt.Errorf("serve: %w", err), "")
	}
	return nil // Ctrl-C is how it ends
}

// fileServer serves the regular files of a directory, parts of them as well.
type fileServer struct {
	root *os.Root
	mu   sync.Mutex
	log  io.Writer
}

// ServeHTTP implements http.Handler.
func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, status: http.StatusOK}
	s.answer(a, r)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.log, "%s %s %s %d %d\n", host, r.Method, strconv.Quote(r.URL.Path), a.status, a.bytes)
}

func (s *fileServer) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "."
	}
	// Opening a pipe would wait for somebody to write to it.
	info, err := s.root.Stat(name)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	f, err := s.root.Open(name)
	if err != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer f.Close()
	info, err = f.Stat()
	switch {
	case err == nil && info.IsDir():
		s.list(w, f)
	case err != nil || !info.Mode().IsRegular():
		http.Error(w, "no such file", http.StatusNotFound)
	default:
		// Firmware and boot loaders guess nothing from a type.
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", info.ModTime(), f)
	}
}

// list answers with the names in a directory, one a line.
func (s *fileServer) list(w http.ResponseWriter, f *os.File) {
	const most = 1000
	names, err := f.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, "cannot be read", http.StatusInternalServerError)
		return
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, n := range names {
		fmt.Fprintln(w, printable(n))
	}
}

// answer notes what was answered.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}
