package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// Client asks a running gateway.
type Client struct {
	http  *http.Client
	watch Watch // nil: nobody looks
}

// Dial returns a client of the gateway at the socket, or a
// sallyport.Unavailable if none answers.
func Dial(ctx context.Context, socket string) (*Client, error) {
	return DialWatched(ctx, socket, nil)
}

// DialWatched is [Dial] with somebody to look at every checkpoint that the
// gateway shows. A sallyport.Damaged says that its history was changed.
func DialWatched(ctx context.Context, socket string, watch Watch) (*Client, error) {
	c := &Client{watch: watch, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	if err := c.call(ctx, "GET", "/v1/ping", nil, nil); sallyport.KindOf(err) == sallyport.Damaged {
		return nil, err
	} else if err != nil {
		return nil, sallyport.E("gateway", sallyport.Unavailable, errors.New("no gateway answers at "+socket),
			"Start it with `sallyport serve --config FILE`.")
	}
	return c, nil
}

// Submit submits a job.
func (c *Client) Submit(ctx context.Context, s Submission) (job gateway.Job, err error) {
	return job, c.call(ctx, "POST", "/v1/jobs", s, &job)
}

// Jobs returns the jobs that the caller may see, oldest first.
func (c *Client) Jobs(ctx context.Context) (jobs []gateway.Job, err error) {
	return jobs, c.call(ctx, "GET", "/v1/jobs", nil, &jobs)
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id sallyport.JobID) (job gateway.Job, err error) {
	return job, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(string(id)), nil, &job)
}

// Described returns what a job's release report is made of.
func (c *Client) Described(ctx context.Context, id sallyport.JobID) (d gateway.DescribedJob, err error) {
	return d, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(string(id))+"/described", nil, &d)
}

// Cancel gives a job up and returns it as it ended.
func (c *Client) Cancel(ctx context.Context, id sallyport.JobID, as string) (job gateway.Job, err error) {
	return job, c.call(ctx, "POST", "/v1/jobs/"+url.PathEscape(string(id))+"/cancel?as="+url.QueryEscape(as), nil, &job)
}

// Releases returns a dataset's release history.
func (c *Client) Releases(ctx context.Context, dataset string) (list []sallyport.Release, err error) {
	return list, c.call(ctx, "GET", "/v1/releases/"+url.PathEscape(dataset), nil, &list)
}

// Token returns a one-time enrolment token for a node of operator.
func (c *Client) Token(ctx context.Context, operator string, ttl time.Duration) (string, error) {
	var out struct{ Token string }
	err := c.call(ctx, "POST", "/v1/nodes/token", TokenRequest{Operator: operator, Seconds: int(ttl.Seconds())}, &out)
	return out.Token, err
}

// Nodes fills into, a pointer to a slice, with the nodes on offer.
func (c *Client) Nodes(ctx context.Context, into any) error {
	return c.call(ctx, "GET", "/v1/nodes", nil, into)
}

// Events yields a job's events until it has ended.
func (c *Client) Events(ctx context.Context, id sallyport.JobID) iter.Seq2[gateway.Event, error] {
	return func(yield func(gateway.Event, error) bool) {
		body, err := c.stream(ctx, "/v1/jobs/"+url.PathEscape(string(id))+"/events")
		if err != nil {
			yield(gateway.Event{}, err)
			return
		}
		defer body.Close()
		dec := json.NewDecoder(body)
		for {
			var e gateway.Event
			err := dec.Decode(&e)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(e, sallyport.E("watch job", sallyport.Unavailable, err, "The gateway stopped; the job continues when it starts again."))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Result opens the kept result of a job.
func (c *Client) Result(ctx context.Context, id sallyport.JobID) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/jobs/"+url.PathEscape(string(id))+"/result")
}

// Log opens what a job's module said.
func (c *Client) Log(ctx context.Context, id sallyport.JobID) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/jobs/"+url.PathEscape(string(id))+"/log")
}

// Snapshot opens a copy of the audit log, to verify it. The keys of what its
// records say do not go along.
func (c *Client) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/audit")
}

func (c *Client) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	res, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return sallyport.E("read answer", sallyport.Invalid, err, "Client and gateway may be of different versions.")
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, sallyport.E("ask gateway", sallyport.Internal, err, "")
		}
		body = bytes.NewReader(b)
	}
	return c.send(ctx, method, path, "application/json", body)
}

func (c *Client) send(ctx context.Context, method, path, media string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return nil, sallyport.E("ask gateway", sallyport.Internal, err, "")
	}
	if body != nil {
		req.Header.Set("Content-Type", media)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, sallyport.E("ask gateway", sallyport.Unavailable, err, "Is it running? Start it with `sallyport serve`.")
	}
	if c.watch != nil {
		if err := c.watch(ctx, res.Header.Get(gateway.CheckpointHeader), c); err != nil {
			return nil, errors.Join(err, res.Body.Close())
		}
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var p Problem
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&p); err != nil || p.Error == "" {
		return nil, sallyport.Errorf("ask gateway", sallyport.Internal, "", "it answered %s", res.Status)
	}
	return nil, p.err()
}
