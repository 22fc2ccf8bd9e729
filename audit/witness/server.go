package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/note"

	"sallyport"
	"sallyport/audit"
)

// ServerConfig says what a witness is made of.
type ServerConfig struct {
	Path   string          // of the file with what it saw; made if it is not there
	Signer *audit.Cosigner // its key
	Logs   []string        // verifier keys of the logs that it follows; a key's name is its log's origin
	Now    func() time.Time
	Log    *slog.Logger
}

// Server is a witness. It answers add-checkpoint at POST …/add-checkpoint, and
// tells what it saw at GET …/ . Requests need no authentication: the log's
// signature is one.
type Server struct {
	db     *bbolt.DB
	signer *audit.Cosigner
	logs   map[string][]note.Verifier // by origin
	now    func() time.Time
	log    *slog.Logger
}

// The file's buckets: origin → newest cosigned checkpoint as it was signed;
// origin, zero, size, root → a checkpoint that shows a fork.
var (
	bucketHeads = []byte("heads")
	bucketForks = []byte("forks")
)

// maxForks bounds the evidence kept of one log.
const maxForks = 16

// Open opens a witness. One process has a witness's file open at a time:
// [sallyport.Unavailable] says that another has.
func Open(cfg ServerConfig) (*Server, error) {
	const op = "open witness"
	s := &Server{signer: cfg.Signer, logs: map[string][]note.Verifier{}, now: cfg.Now, log: cfg.Log}
	for _, key := range cfg.Logs {
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "`sallyport audit checkpoint` prints a log's verifier key.", "log %q: %w", key, err)
		}
		s.logs[v.Name()] = append(s.logs[v.Name()], v)
	}
	if s.signer == nil || s.now == nil || s.log == nil {
		return nil, sallyport.Errorf(op, sallyport.Internal, "", "a part is missing")
	}
	db, err := bbolt.Open(cfg.Path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "Stop the other one: two memories would sign two histories.", "another process has %s open", cfg.Path)
	}
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketHeads, bucketForks} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(sallyport.E(op, sallyport.Unavailable, err, ""), db.Close())
	}
	s.db = db
	return s, nil
}

// Close closes the file.
func (s *Server) Close() error { return s.db.Close() }

// answer is an HTTP answer that is not a cosignature.
type answer struct {
	status int
	media  string
	body   string
}

func (a *answer) Error() string { return a.body }

func refuse(status int, format string, args ...any) *answer {
	return &answer{status, "text/plain; charset=utf-8", fmt.Sprintf(format, args...) + "\n"}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/add-checkpoint") && r.Method == http.MethodPost:
		s.add(w, r)
	case strings.HasSuffix(r.URL.Path, "/add-checkpoint"):
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	case strings.HasSuffix(r.URL.Path, "/") && r.Method == http.MethodGet:
		list, err := s.Seen()
		if err != nil {
			http.Error(w, "the witness's file cannot be read", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	default:
		http.NotFound(w, r)
	}
}

var _ http.Handler = (*Server)(nil)

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var line string
	if err != nil {
		err = refuse(http.StatusBadRequest, "the request cannot be read, or is larger than %d bytes", maxRequest)
	} else {
		line, err = s.Add(body)
	}
	if err == nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, line)
		return
	}
	a, ok := errors.AsType[*answer](err)
	if !ok {
		s.log.Error("witness: a checkpoint was not cosigned", "err", err)
		a = refuse(http.StatusInternalServerError, "the witness cannot remember the checkpoint, and so does not sign it")
	}
	w.Header().Set("Content-Type", a.media)
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// Add does what add-checkpoint says with a request's body, and returns the
// cosignature line. When it returns one, the checkpoint is durable.
func (s *Server) Add(body []byte) (line string, err error) {
	req, err := parseRequest(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	text, cp, err := s.trusted(req.checkpoint)
	if err != nil {
		return "", err
	}
	if req.old > cp.Size {
		return "", refuse(http.StatusBadRequest, "the old size %d is more than the checkpoint's %d", req.old, cp.Size)
	}
	var refused error
	// Comparing and remembering are one transaction, and there is one writer.
	err = s.db.Update(func(tx *bbolt.Tx) error {
		heads := tx.Bucket(bucketHeads)
		var last audit.Checkpoint
		known := heads.Get([]byte(cp.Origin))
		if known != nil {
			if last, err = parseHead(noteText(string(known))); err != nil {
				return err
			}
		}
		forked := known != nil && last.Size == cp.Size && last.Root != cp.Root
		no := func(a *answer) error {
			if refused = a; forked {
				return nil // and the evidence is kept
			}
			return a // nothing is written
		}
		if forked {
			// The log signed two roots: whatever the old size, keep that.
			if err := keepFork(tx, cp, req.checkpoint); err != nil {
				return err
			}
			s.log.Error("witness: the log signed two histories", "origin", cp.Origin, "size", cp.Size)
		}
		if req.old != last.Size {
			return no(&answer{http.StatusConflict, sizeMedia, fmt.Sprintf("%d\n", last.Size)})
		}
		if forked {
			return no(refuse(http.StatusConflict, "another root was cosigned for %d records of %s", cp.Size, cp.Origin))
		}
		if known == nil {
			last = audit.Checkpoint{Origin: cp.Origin, Root: emptyRoot}
		}
		if err := audit.CheckConsistency(req.proof, last, cp); err != nil {
			s.log.Warn("witness: a checkpoint is not shown to continue the one before", "origin", cp.Origin, "old", last.Size, "size", cp.Size)
			return no(refuse(http.StatusUnprocessableEntity, "the proof does not lead from %d to %d records", last.Size, cp.Size))
		}
		if line, err = s.signer.Cosign(text, s.now()); err != nil {
			return err
		}
		if known != nil && last.Size == cp.Size {
			return nil // asked again; nothing new to remember
		}
		return heads.Put([]byte(cp.Origin), []byte(req.checkpoint))
	})
	if refused != nil {
		err = refused
	}
	if err != nil {
		return "", err // whatever was signed is not durable
	}
	return line, nil
}

// emptyRoot is the root of a log without records: SHA-256 of nothing.
var emptyRoot = sha256.Sum256(nil)

// trusted returns the signed text of a checkpoint that a trusted key signed.
func (s *Server) trusted(signed string) (text string, cp audit.Checkpoint, err error) {
	text = noteText(signed)
	if text == "" {
		return "", cp, refuse(http.StatusBadRequest, "the checkpoint is not a signed note")
	}
	if cp, err = parseHead(text); err != nil {
		return "", cp, refuse(http.StatusBadRequest, "%v", err)
	}
	keys, ok := s.logs[cp.Origin]
	if !ok {
		return "", cp, refuse(http.StatusNotFound, "this witness does not follow log %q", cp.Origin)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(keys...))
	invalid, unverified := (*note.InvalidSignatureError)(nil), (*note.UnverifiedNoteError)(nil)
	switch {
	case errors.As(err, &invalid), errors.As(err, &unverified):
		return "", cp, refuse(http.StatusForbidden, "the checkpoint is not signed by a key that is trusted for %q", cp.Origin)
	case err != nil:
		return "", cp, refuse(http.StatusBadRequest, "the checkpoint is not a signed note")
	}
	return n.Text, cp, nil
}

// noteText returns the text of a signed note: what stands before its last
// empty line.
func noteText(signed string) string {
	i := strings.LastIndex(signed, "\n\n")
	if i < 0 {
		return ""
	}
	return signed[:i+1]
}

func keepFork(tx *bbolt.Tx, cp audit.Checkpoint, signed string) error {
	b := tx.Bucket(bucketForks)
	prefix, n := []byte(cp.Origin+"\x00"), 0
	for c, k := b.Cursor(), []byte(nil); ; n++ {
		if n == 0 {
			k, _ = c.Seek(prefix)
		} else {
			k, _ = c.Next()
		}
		if !bytes.HasPrefix(k, prefix) {
			break
		}
		if n == maxForks {
			return nil
		}
	}
	return b.Put(fmt.Appendf(prefix, "%020d %s", cp.Size, hex.EncodeToString(cp.Root[:])), []byte(signed))
}

// Sight is what a witness saw of a log.
type Sight struct {
	Origin     string   `json:"origin"`
	Size       uint64   `json:"size"`
	Root       string   `json:"root,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"` // as the log signed it
	Forks      []string `json:"forks,omitempty"`      // checkpoints of the log that contradict it
}

// Seen returns what the witness saw, by origin; also logs of which it saw
// nothing yet, and logs that it does not follow any more.
func (s *Server) Seen() ([]Sight, error) {
	seen := map[string]*Sight{}
	for origin := range s.logs {
		seen[origin] = &Sight{Origin: origin}
	}
	at := func(origin string) *Sight {
		if seen[origin] == nil {
			seen[origin] = &Sight{Origin: origin}
		}
		return seen[origin]
	}
	err := s.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketHeads).ForEach(func(k, v []byte) error {
			cp, err := parseHead(noteText(string(v)))
			if err != nil {
				return err
			}
			x := at(string(k))
			x.Size, x.Root, x.Checkpoint = cp.Size, base64.StdEncoding.EncodeToString(cp.Root[:]), string(v)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketForks).ForEach(func(k, v []byte) error {
			origin, _, _ := strings.Cut(string(k), "\x00")
			x := at(origin)
			x.Forks = append(x.Forks, string(v))
			return nil
		})
	})
	if err != nil {
		return nil, sallyport.E("read witness", sallyport.Damaged, err, "")
	}
	out := []Sight{}
	for _, x := range seen {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Sight) int { return strings.Compare(a.Origin, b.Origin) })
	return out, nil
}
