// Package memory lets the clients of a gateway remember its audit log. Each
// answer carries the log's latest checkpoint; a client that keeps the largest
// one, and demands that every later one continues it, finds out when the log
// was rolled back or rewritten behind it, without asking anybody else.
//
// The first contact is taken on trust, as ssh does with host keys: the log's
// verifier key is pinned then.
package memory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport"
	"sallyport/audit"
)

// Gateway is what is asked of the gateway that showed a checkpoint. Both
// answers are only as good as their signatures and proofs.
type Gateway interface {
	// Checkpoint returns the latest signed checkpoint and the log's verifier key.
	Checkpoint(ctx context.Context) (signed, verifierKey string, err error)
	// Consistency returns the proof that the log of size records continues that
	// of old, its hashes in base64.
	Consistency(ctx context.Context, old, size uint64) ([]string, error)
}

// Memory is a folder with one file a gateway.
type Memory struct {
	dir string
	now func() time.Time
}

// New returns the memory in a folder, which is made when something is to be
// remembered.
func New(dir string, now func() time.Time) *Memory { return &Memory{dir, now} }

// entry is what is remembered of a gateway.
type entry struct {
	Address    string    `json:"address"`
	Key        string    `json:"key"` // verifier key, pinned at the first contact
	Since      time.Time `json:"since"`
	Checkpoint string    `json:"checkpoint"` // the largest, as it was signed
}

// file is keyed by how the gateway is reached, and not by the name that its log
// bears: a log under another name must not pass for one never seen.
func (m *Memory) file(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:8])+".json")
}

func (m *Memory) read(address string) (*entry, error) {
	b, err := os.ReadFile(m.file(address))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, notKept(err)
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil || e.Address != address {
		return nil, sallyport.Errorf("remembered checkpoint", sallyport.Damaged, "Look who changed it; remove it to trust the gateway anew.", "%s is not what was remembered of %s", m.file(address), address)
	}
	return &e, nil
}

// notKept is a memory that does not work. It is no sign against the gateway.
func notKept(err error) error { return &Unkept{err} }

// Unkept says that nothing could be read or remembered: the caller may warn and
// go on.
type Unkept struct{ Err error }

func (u *Unkept) Error() string { return "checkpoints cannot be remembered: " + u.Err.Error() }
func (u *Unkept) Unwrap() error { return u.Err }

// See holds the checkpoint line of an answer against what is remembered of the
// gateway at address, and remembers it if it is larger. Errors:
// [sallyport.Damaged] when the log's history was changed, with both checkpoints
// kept for evidence; *[Unkept]; or why the gateway could not be asked.
func (m *Memory) See(ctx context.Context, address, line string, g Gateway) error {
	known, err := m.read(address)
	if err != nil {
		return err
	}
	if known == nil {
		if line == "" {
			return nil // it never showed one
		}
		return m.meet(ctx, address, line, g)
	}
	if line == "" {
		return m.forked(known, "", "it no longer shows the checkpoint of its log")
	}
	signed, err := audit.ParseCheckpointLine(line)
	if err != nil {
		return m.forked(known, line, "it shows a checkpoint that cannot be read")
	}
	if signed == known.Checkpoint {
		return nil
	}
	old, err := audit.ParseCheckpoint(known.Checkpoint, known.Key)
	if err != nil {
		return sallyport.Errorf("remembered checkpoint", sallyport.Damaged, "Look who changed it; remove it to trust the gateway anew.", "%s: %w", m.file(address), err)
	}
	cp, err := audit.ParseCheckpoint(signed, known.Key)
	if err != nil {
		return m.forked(known, signed, fmt.Sprintf("it shows a checkpoint that is not signed by the log's key: %v", err))
	}
	if cp.Size < old.Size {
		// Another client, or another answer, may have shown us more since this
		// one began. What the gateway says from now on may not be less.
		was := cp
		if signed, _, err = g.Checkpoint(ctx); err != nil {
			return err
		}
		if cp, err = audit.ParseCheckpoint(signed, known.Key); err != nil {
			return m.forked(known, signed, fmt.Sprintf("it shows a checkpoint that is not signed by the log's key: %v", err))
		}
		if cp.Size < old.Size {
			return m.forked(known, signed, fmt.Sprintf("its log was rolled back: it had %d records and has %d", old.Size, cp.Size))
		}
		if err := m.consistent(ctx, g, known, was, signed, cp); err != nil {
			return err
		}
	}
	if err := m.consistent(ctx, g, known, old, signed, cp); err != nil {
		return err
	}
	if cp.Size == old.Size {
		return nil
	}
	return m.write(entry{address, known.Key, known.Since, signed})
}

// consistent demands the proof that the log of b continues that of a.
func (m *Memory) consistent(ctx context.Context, g Gateway, known *entry, a audit.Checkpoint, shown string, b audit.Checkpoint) error {
	var lines []string
	if a.Size != 0 && a.Size < b.Size {
		var err error
		if lines, err = g.Consistency(ctx, a.Size, b.Size); err != nil {
			if k := sallyport.KindOf(err); k == sallyport.Unavailable || k == sallyport.Canceled || ctx.Err() != nil {
				return err // it ended; it did not refuse
			}
			return m.forked(known, shown, fmt.Sprintf("it does not prove that its log of %d records continues that of %d: %v", b.Size, a.Size, err))
		}
	}
	path, err := audit.ParseHashes(lines)
	if err == nil {
		err = audit.CheckConsistency(path, a, b)
	}
	if err != nil {
		return m.forked(known, shown, err.Error())
	}
	return nil
}

// meet pins the key of a gateway that was never met.
func (m *Memory) meet(ctx context.Context, address, line string, g Gateway) error {
	signed, err := audit.ParseCheckpointLine(line)
	if err != nil {
		return err
	}
	_, key, err := g.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if _, err := audit.ParseCheckpoint(signed, key); err != nil {
		return err
	}
	return m.write(entry{address, key, m.now().UTC().Truncate(time.Second), signed})
}

// forked keeps both checkpoints and says so. What is remembered stays.
func (m *Memory) forked(known *entry, shown, why string) error {
	sum := sha256.Sum256([]byte(shown))
	file := filepath.Join(m.dir, "forked", filepath.Base(m.file(known.Address))+"-"+hex.EncodeToString(sum[:8])+".txt")
	text := fmt.Sprintf("The gateway at %s: %s.\nKey of its log: %s\nSeen at %s.\n\nRemembered:\n\n%s\nShown:\n\n%s",
		known.Address, why, known.Key, m.now().UTC().Format(time.RFC3339), known.Checkpoint, shown)
	where := "both checkpoints are kept in " + file
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := put(file, []byte(text)); err != nil {
			where = "the checkpoints could not be kept: " + err.Error()
		}
	}
	return sallyport.Errorf("history forked", sallyport.Damaged,
		"Tell the compliance officer before anything else is done. If the gateway was made anew on purpose, remove "+m.file(known.Address)+".",
		"the audit log of the gateway at %s is not the one that was seen before: %s; %s", known.Address, why, where)
}

func (m *Memory) write(e entry) error {
	// A larger one may have been remembered meanwhile, by another process.
	if have, err := m.read(e.Address); err == nil && have != nil {
		a, err1 := audit.ParseCheckpoint(have.Checkpoint, e.Key)
		b, err2 := audit.ParseCheckpoint(e.Checkpoint, e.Key)
		if err1 != nil || err2 != nil || a.Size > b.Size {
			return nil // the next contact compares with that
		}
	}
	b, err := json.MarshalIndent(e, "", "  ")
	if err == nil {
		err = put(m.file(e.Address), append(b, '\n'))
	}
	if err != nil {
		return notKept(err)
	}
	return nil
}

// put writes a file whole or not at all.
func put(file string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
