package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"sallyport"
)

// Endpoint is where a server listens, and the access key that its client signs
// with. The key lives no longer than the bench.
type Endpoint struct {
	Address   string `json:"address"` // host:port, plain HTTP
	Region    string `json:"region"`
	AccessKey string `json:"access_key"`
	Secret    string `json:"secret"`
}

// Answer is the end of a measured server's process that speaks with the bench:
// it says where the server listens, and then, whenever it is asked, how much
// memory and time this process has used. It returns when in ends or ctx is done.
func Answer(ctx context.Context, in io.Reader, out io.Writer, e Endpoint) error {
	if err := json.NewEncoder(out).Encode(e); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	ended := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			peak, err := peakMemory()
			if err == nil {
				err = json.NewEncoder(out).Encode(used{peak, cpuTime()})
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return sallyport.E("bench", sallyport.Canceled, ctx.Err(), "")
	}
}

// used is what a server's process has used so far.
type used struct {
	Peak int64         `json:"peak"` // bytes of memory
	CPU  time.Duration `json:"cpu"`  // of all cores, user and system; 0 where it is not known
}

// peerTask is what a peer's process is told to be: a file server, or a reverse
// proxy before one.
type peerTask struct {
	Files    string `json:"files,omitempty"`
	Upstream string `json:"upstream,omitempty"`
}

func (t peerTask) String() string {
	b, _ := json.Marshal(t) // of strings: cannot fail
	return string(b)
}

// Peer is a peer's process: the standard library's file server with a handler
// for PUT, or the standard library's reverse proxy. task is the argument that
// [S3Options.Peer] was called with.
func Peer(ctx context.Context, task string, in io.Reader, out io.Writer) error {
	var t peerTask
	if err := json.Unmarshal([]byte(task), &t); err != nil || (t.Files == "") == (t.Upstream == "") {
		return sallyport.Errorf("bench", sallyport.Invalid, "It is started by `sallyport bench s3`.", "not a task of the bench")
	}
	var handler http.Handler
	if t.Files != "" {
		root, err := os.OpenRoot(t.Files)
		if err != nil {
			return sallyport.E("bench", sallyport.Unavailable, err, "")
		}
		defer root.Close()
		handler = fileServer(root)
	} else {
		u, err := url.Parse(t.Upstream)
		if err != nil {
			return sallyport.E("bench", sallyport.Invalid, err, "")
		}
		handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l) // ends with Close; the client notices
	err = Answer(ctx, in, out, Endpoint{Address: l.Addr().String(), Region: "us-east-1", AccessKey: "nobody", Secret: "no-secret"})
	return errors.Join(err, s.Close())
}

// fileServer reads with what the standard library offers, and writes in the
// least way that survives a power cut.
func fileServer(root *os.Root) http.Handler {
	files := http.FileServerFS(root.FS())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		var err error
		switch r.Method {
		case http.MethodPut:
			err = putFile(root, name, r.Body)
			w.Header().Set("ETag", `"0"`)
		case http.MethodDelete:
			if err = root.Remove(name); err == nil {
				w.WriteHeader(http.StatusNoContent)
			}
		default:
			files.ServeHTTP(w, r)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

func putFile(root *os.Root, name string, body io.Reader) error {
	f, err := root.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return root.Rename(name+".new", name)
}

// process is the bench's end of a server's process.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs *strings.Builder
	done bool
}

func startProcess(ctx context.Context, command []string) (*process, Endpoint, error) {
	var e Endpoint
	if len(command) == 0 {
		return nil, e, sallyport.Errorf("bench", sallyport.Internal, "", "no command for a server's process")
	}
	p := &process{cmd: exec.CommandContext(ctx, command[0], command[1:]...), errs: &strings.Builder{}}
	p.cmd.Stderr = p.errs
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, e, sallyport.E("bench", sallyport.Internal, err, "")
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, e, sallyport.E("bench", sallyport.Internal, err, "")
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, e, sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &e)
	}
	if err != nil {
		return nil, e, errors.Join(sallyport.Errorf("bench", sallyport.Internal, "", "a server did not start: %w", err), p.stop())
	}
	return p, e, nil
}

// used asks what the process has used.
func (p *process) used() (u used, err error) {
	if _, err = fmt.Fprintln(p.in, "used"); err == nil {
		var line []byte
		if line, err = p.out.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &u)
		}
	}
	return u, failed(err)
}

// stop ends the process and waits for it. Doing it again is no error.
func (p *process) stop() error {
	if p.done {
		return nil
	}
	p.done = true
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		return sallyport.Errorf("bench", sallyport.Internal, "", "a server's process: %w: %s", err, strings.TrimSpace(p.errs.String()))
	}
	return nil
}
