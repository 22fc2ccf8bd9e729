package witness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/audit"
)

// Peer is a witness that is asked.
type Peer struct {
	URL string `yaml:"url"` // submission prefix; add-checkpoint is below it
	Key string `yaml:"key"` // its verifier key
}

// Config says who witnesses a log.
type Config struct {
	Witnesses []Peer `yaml:"witnesses"`
	// Quorum is how many of them must cosign; 0 is all.
	Quorum int `yaml:"quorum"`
	// Every is how often a checkpoint is submitted, if there is a new one; 0 is a minute.
	Every time.Duration `yaml:"every"`
}

// Parts are what a client stands on.
type Parts struct {
	Log  *audit.Log
	Path string       // of the newest cosigned checkpoint; see [Kept]
	HTTP *http.Client // nil: one with a timeout of 10 s
	Now  func() time.Time
	Slog *slog.Logger
}

// Status is how things are with one witness.
type Status struct {
	Name string    `json:"name"`
	URL  string    `json:"url"`
	Size uint64    `json:"size"` // of the newest checkpoint that it cosigned
	Time time.Time `json:"time"` // that it gave
	Err  string    `json:"error,omitempty"`
	// Damage is set when the witness knows another past of the log: rolled
	// back, or forked. Such a log must not go on.
	Damage string `json:"damage,omitempty"`
}

// Client has a log's checkpoints cosigned.
type Client struct {
	parts  Parts
	quorum int
	every  time.Duration
	peers  []*peer

	round sync.Mutex // one round at a time
	mu    sync.Mutex
	kept  string
}

type peer struct {
	url    string
	key    audit.WitnessKey
	known  uint64 // size that the witness cosigned last, as far as we know
	status Status
}

// Kept is where the newest cosigned checkpoint of the log in a file is kept.
func Kept(logPath string) string { return logPath + ".cosigned" }

// NewClient returns a client. It reads what was kept, and refuses a log that
// is behind it: see [CheckKept].
func NewClient(cfg Config, p Parts) (*Client, error) {
	const op = "witness"
	if p.HTTP == nil {
		p.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	if p.Log == nil || p.Path == "" || p.Now == nil || p.Slog == nil {
		return nil, sallyport.Errorf(op, sallyport.Internal, "", "a part is missing")
	}
	c := &Client{parts: p, quorum: cfg.Quorum, every: cfg.Every}
	if c.every <= 0 {
		c.every = time.Minute
	}
	names := map[string]bool{}
	for _, w := range cfg.Witnesses {
		k, err := audit.ParseWitnessKey(w.Key)
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(w.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "Give the address that `sallyport witness serve` prints.", "witness %s has the URL %q", k.Name(), w.URL)
		}
		if names[k.Name()] {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "Two signatures of one witness are one.", "witness %s is listed twice", k.Name())
		}
		names[k.Name()] = true
		c.peers = append(c.peers, &peer{url: strings.TrimSuffix(w.URL, "/") + "/add-checkpoint", key: k, status: Status{Name: k.Name(), URL: w.URL}})
	}
	if c.quorum == 0 {
		c.quorum = len(c.peers)
	}
	if len(c.peers) == 0 || c.quorum < 0 || c.quorum > len(c.peers) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "%d of %d witnesses cannot cosign", c.quorum, len(c.peers))
	}
	if err := CheckKept(p.Log, p.Path); err != nil {
		return nil, err
	}
	kept, err := ReadKept(p.Path)
	if err != nil {
		return nil, err
	}
	if c.kept = kept; kept != "" {
		cp, cosigs, err := audit.ParseCosigned(kept, p.Log.VerifierKey(), c.keys())
		if err != nil {
			return nil, err
		}
		for _, s := range cosigs {
			for _, w := range c.peers {
				if w.key.String() == s.Key {
					w.known, w.status.Size, w.status.Time = cp.Size, cp.Size, s.Time
				}
			}
		}
	}
	return c, nil
}

func (c *Client) keys() []audit.WitnessKey {
	var out []audit.WitnessKey
	for _, w := range c.peers {
		out = append(out, w.key)
	}
	return out
}

// ReadKept returns the cosigned checkpoint kept at path, "" if there is none.
func ReadKept(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", sallyport.E("read cosigned checkpoint", sallyport.Unavailable, err, "")
	}
	return string(b), nil
}

// CheckKept says whether a log continues the cosigned checkpoint kept at path.
// A gateway asks before its first record: [sallyport.Damaged] means that the
// log was rolled back or replaced since a witness saw it, and that to sign
// anything now would make a fork. No file is no fault.
func CheckKept(l *audit.Log, path string) error {
	const op = "open audit log"
	signed, err := ReadKept(path)
	if err != nil || signed == "" {
		return err
	}
	const keep = "Keep the file and the log for examination, and restore the newest log. Only an officer may decide to go on without the lost records; then move the file away."
	cp, err := audit.ParseCheckpoint(signed, l.VerifierKey())
	if err != nil {
		return sallyport.Errorf(op, sallyport.Damaged, keep, "the cosigned checkpoint in %s is not of this log: %w", path, err)
	}
	if have := l.Size(); have < cp.Size {
		return sallyport.Errorf(op, sallyport.Damaged, keep, "rolled back: the log has %d records, but witnesses cosigned %d", have, cp.Size)
	}
	root, err := l.Root(cp.Size)
	if err != nil {
		return err
	}
	if root != cp.Root {
		return sallyport.Errorf(op, sallyport.Damaged, keep, "forked: the log's first %d records are not those that witnesses cosigned", cp.Size)
	}
	return nil
}

// Newest returns the newest checkpoint that a quorum cosigned, "" if there is none.
func (c *Client) Newest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// Status tells how things are with each witness.
func (c *Client) Status() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Status
	for _, w := range c.peers {
		out = append(out, w.status)
	}
	return out
}

// Cosign submits the log's latest checkpoint to every witness at once, and
// keeps it with its cosignatures when a quorum gave theirs. Errors:
// [sallyport.Damaged] if a witness knows another past of the log, which no
// number of other witnesses outweighs; [sallyport.Unavailable] if there are too
// few cosignatures.
func (c *Client) Cosign(ctx context.Context) (string, error) {
	const op = "cosign checkpoint"
	c.round.Lock()
	defer c.round.Unlock()
	signed, err := c.parts.Log.Checkpoint()
	if err != nil {
		return "", err
	}
	cp, err := audit.ParseCheckpoint(signed, c.parts.Log.VerifierKey())
	if err != nil {
		return "", err
	}
	lines, errs := make([]string, len(c.peers)), make([]error, len(c.peers))
	var wg sync.WaitGroup
	for i, w := range c.peers {
		wg.Go(func() { lines[i], errs[i] = c.ask(ctx, w, signed, cp) })
	}
	wg.Wait()
	n, damage := 0, error(nil)
	cosigned := signed
	for i, line := range lines {
		switch {
		case errs[i] == nil:
			n++
			cosigned += line
		case sallyport.KindOf(errs[i]) == sallyport.Damaged:
			damage = errors.Join(damage, errs[i])
		}
	}
	if damage != nil {
		return "", sallyport.E(op, sallyport.Damaged, damage, "Stop the gateway, and hold the witness's checkpoint against the log: `sallyport witness ls --url URL`.")
	}
	if n < c.quorum {
		return "", sallyport.Errorf(op, sallyport.Unavailable, "It is tried again.", "%d of %d witnesses cosigned, %d are needed: %w", n, len(c.peers), c.quorum, errors.Join(errs...))
	}
	if err := keep(c.parts.Path, cosigned); err != nil {
		return "", err
	}
	c.mu.Lock()
	c.kept = cosigned
	c.mu.Unlock()
	return cosigned, nil
}

// ask has one witness cosign, and returns its line.
func (c *Client) ask(ctx context.Context, w *peer, signed string, cp audit.Checkpoint) (string, error) {
	line, cosig, err := c.submit(ctx, w, signed, cp)
	c.mu.Lock()
	defer c.mu.Unlock()
	w.status.Err, w.status.Damage = "", ""
	if err != nil {
		w.status.Err = err.Error()
		if sallyport.KindOf(err) == sallyport.Damaged {
			w.status.Damage = err.Error()
		}
		return "", err
	}
	w.known, w.status.Size, w.status.Time = cp.Size, cp.Size, cosig.Time
	return line, nil
}

// maxAnswer bounds what is read of a witness's answer.
const maxAnswer = 64 << 10

func (c *Client) submit(ctx context.Context, w *peer, signed string, cp audit.Checkpoint) (string, audit.Cosignature, error) {
	c.mu.Lock()
	old := min(w.known, cp.Size)
	c.mu.Unlock()
	none := audit.Cosignature{}
	// A witness may have seen more than we remember, once; and another process
	// of ours may submit meanwhile, a few times.
	for range 4 {
		proof, err := c.parts.Log.Consistency(old, cp.Size)
		if err != nil {
			return "", none, err
		}
		status, media, body, err := c.post(ctx, w, request{old, proof, signed})
		if err != nil {
			return "", none, err
		}
		switch {
		case status == http.StatusOK:
			return c.accept(w, signed, body)
		case status == http.StatusConflict && media == sizeMedia:
			size, err := parseSize(strings.TrimSuffix(body, "\n"))
			if err != nil {
				return "", none, c.fault(w, sallyport.Unavailable, "it answered a conflict without a size")
			}
			if size > cp.Size && size > c.parts.Log.Size() {
				return "", none, c.contradicted(ctx, w, fmt.Sprintf("it cosigned %d records, and the log has %d", size, c.parts.Log.Size()))
			}
			if size > cp.Size {
				return "", none, c.fault(w, sallyport.Unavailable, "a newer checkpoint was submitted meanwhile")
			}
			old = size
		case status == http.StatusConflict:
			return "", none, c.contradicted(ctx, w, fmt.Sprintf("it cosigned another log of %d records", cp.Size))
		case status == http.StatusUnprocessableEntity:
			return "", none, c.contradicted(ctx, w, fmt.Sprintf("the log's first %d records are not those that it cosigned", old))
		case status == http.StatusNotFound:
			return "", none, c.fault(w, sallyport.Unavailable, "it does not follow %q, or its address is wrong", cp.Origin)
		case status == http.StatusForbidden:
			return "", none, c.fault(w, sallyport.Unavailable, "it trusts another key for %q", cp.Origin)
		default:
			return "", none, c.fault(w, sallyport.Unavailable, "it answered %d", status)
		}
	}
	return "", none, c.fault(w, sallyport.Unavailable, "it always has another size")
}

func (c *Client) fault(w *peer, kind sallyport.Kind, format string, args ...any) error {
	return sallyport.Errorf("witness "+w.key.Name(), kind, "", format, args...)
}

// contradicted is what to answer when a witness claims to know another past. A
// claim alone must not stop a gateway, since anybody on the way could make it:
// what counts is a checkpoint signed by the log's own key that the log does not
// continue. It is kept beside the cosigned one.
func (c *Client) contradicted(ctx context.Context, w *peer, claim string) error {
	signed, err := c.sight(ctx, w)
	if err != nil {
		return c.fault(w, sallyport.Unavailable, "it says that %s, and shows no checkpoint of the log for it: %w", claim, err)
	}
	cp, err := audit.ParseCheckpoint(signed, c.parts.Log.VerifierKey())
	if err != nil {
		return c.fault(w, sallyport.Unavailable, "it says that %s, and shows for it what the log did not sign", claim)
	}
	what := ""
	if have := c.parts.Log.Size(); cp.Size > have {
		what = fmt.Sprintf("rolled back: the log signed %d records once, and has %d", cp.Size, have)
	} else if root, err := c.parts.Log.Root(cp.Size); err != nil {
		return err
	} else if root != cp.Root {
		what = fmt.Sprintf("forked: the log signed another history of %d records", cp.Size)
	} else {
		return c.fault(w, sallyport.Unavailable, "it says that %s, but its own checkpoint says otherwise", claim)
	}
	evidence := c.parts.Path + ".contradiction"
	if err := keep(evidence, signed); err != nil {
		evidence = "nowhere: " + err.Error()
	}
	return c.fault(w, sallyport.Damaged, "%s; the checkpoint that shows it is kept in %s", what, evidence)
}

// sight asks a witness for the log's checkpoint that it remembers. Only
// witnesses of this program can be asked that.
func (c *Client) sight(ctx context.Context, w *peer) (string, error) {
	list, err := Ask(ctx, c.parts.HTTP, w.status.URL)
	if err != nil {
		return "", err
	}
	origin, _, _ := strings.Cut(c.parts.Log.VerifierKey(), "+")
	for _, s := range list {
		if s.Origin == origin && s.Checkpoint != "" {
			return s.Checkpoint, nil
		}
	}
	return "", errors.New("it remembers none")
}

// Ask asks a witness of this program what it saw.
func Ask(ctx context.Context, client *http.Client, address string) ([]Sight, error) {
	const op = "ask witness"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/", nil)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Invalid, err, "")
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	defer res.Body.Close()
	var list []Sight
	if res.StatusCode != http.StatusOK {
		err = errors.New("it answered " + res.Status)
	} else {
		err = json.NewDecoder(io.LimitReader(res.Body, 8<<20)).Decode(&list)
	}
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Is there a witness of this program?")
	}
	return list, nil
}

func (c *Client) post(ctx context.Context, w *peer, r request) (status int, media, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, strings.NewReader(string(r.format())))
	if err != nil {
		return 0, "", "", c.fault(w, sallyport.Internal, "%w", err)
	}
	res, err := c.parts.HTTP.Do(req)
	if err != nil {
		return 0, "", "", c.fault(w, sallyport.Unavailable, "%w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, "", "", c.fault(w, sallyport.Unavailable, "%w", err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), string(b), nil
}

// accept takes from a witness's answer the line that is its own, if it is good.
func (c *Client) accept(w *peer, signed, body string) (string, audit.Cosignature, error) {
	for line := range strings.Lines(body) {
		_, cosigs, err := audit.ParseCosigned(signed+line, c.parts.Log.VerifierKey(), []audit.WitnessKey{w.key})
		if err != nil || len(cosigs) == 0 {
			continue // another's line
		}
		if late := cosigs[0].Time.Sub(c.parts.Now()); late > time.Hour {
			return "", audit.Cosignature{}, c.fault(w, sallyport.Unavailable, "its clock is %s ahead", late.Round(time.Minute))
		}
		return line, cosigs[0], nil
	}
	return "", audit.Cosignature{}, c.fault(w, sallyport.Unavailable, "its answer holds no good cosignature of it")
}

// keep writes the cosigned checkpoint, durable and whole.
func keep(path, cosigned string) error {
	fail := func(err error) error {
		return sallyport.E("keep cosigned checkpoint", sallyport.Unavailable, err, "")
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(cosigned)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// patience is the longest wait between two tries.
const patience = 15 * time.Minute

// Run has new checkpoints cosigned until ctx ends. What fails is tried again
// later, each time after twice as long. It returns early, with a
// [sallyport.Damaged], only where a witness knows another past of the log: the
// gateway must stop then.
func (c *Client) Run(ctx context.Context) error {
	wait, done := time.Duration(0), uint64(0)
	if kept := c.Newest(); kept != "" {
		if cp, err := audit.ParseCheckpoint(kept, c.parts.Log.VerifierKey()); err == nil {
			done = cp.Size
		}
	}
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		if wait == 0 {
			wait = c.every
		}
		if c.parts.Log.Size() == done && c.Newest() != "" {
			wait = c.every
			continue
		}
		signed, err := c.Cosign(ctx)
		switch {
		case err == nil:
			cp, _ := audit.ParseCheckpoint(signed, c.parts.Log.VerifierKey())
			done, wait = cp.Size, c.every
			c.parts.Slog.Debug("checkpoint cosigned", "size", done)
		case ctx.Err() != nil:
			return nil
		case sallyport.KindOf(err) == sallyport.Damaged:
			return err
		default:
			c.parts.Slog.Warn("checkpoint not cosigned", "err", err, "again", fmt.Sprint(wait))
			wait = min(wait*2, patience)
		}
	}
}
