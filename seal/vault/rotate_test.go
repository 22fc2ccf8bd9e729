package vault

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"
)

// TestRotateAndTrim holds docs/keys.md to what Vault does with its rotation:
// what goes on, what stops, and that nothing changes without a word.
func TestRotateAndTrim(t *testing.T) {
	st := newSite(t, sharedServer(t))
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	i := st.open(t, func() time.Time { return at })
	trim := func(key string) { // all versions but the second
		t.Helper()
		st.write(t, key+"/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
		st.write(t, key+"/trim", map[string]any{"min_available_version": 2})
	}

	t.Run("release", func(t *testing.T) {
		l := issue(t, i, "job-1")
		key := "transit/keys/" + st.cfg.releaseKey(l.ID)
		st.write(t, key+"/rotate", nil)
		if k, err := i.Fetch(t.Context(), l.ID); err != nil || k.Recipient() != l.Recipient {
			t.Fatal(err)
		}
		trim(key)
		if _, err := i.Fetch(t.Context(), l.ID); err == nil {
			t.Fatal("a trimmed version opens")
		}
		// Unlike a raised minimum it is not taken back.
		if _, err := st.root.Logical().Write(key+"/config", map[string]any{"min_decryption_version": 1}); err == nil {
			if _, err := i.Fetch(t.Context(), l.ID); err == nil {
				t.Fatal("trim was reversible")
			}
		}
		if err := i.Destroy(t.Context(), l.ID, "done"); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("derive", func(t *testing.T) {
		key := "transit/keys/" + st.cfg.deriveKey()
		one, err := i.Derive(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		st.write(t, key+"/rotate", nil)
		at = at.Add(time.Hour)
		if two, err := i.Derive(t.Context(), "p"); err != nil || !bytes.Equal(one, two) {
			t.Fatal("rotation changed a derived secret", err)
		}
		trim(key)
		at = at.Add(time.Hour)
		if got, err := i.Derive(t.Context(), "p"); err == nil || got != nil {
			t.Fatal("derived from a version that was trimmed")
		}
	})

	t.Run("sign", func(t *testing.T) {
		key := "transit/keys/" + st.cfg.signKey("checkpoint")
		msg := []byte("a checkpoint")
		old, err := i.PublicKey(t.Context(), "checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		before, err := i.Sign(t.Context(), "checkpoint", msg)
		if err != nil {
			t.Fatal(err)
		}
		st.write(t, key+"/rotate", nil)
		next, err := i.PublicKey(t.Context(), "checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		after, err := i.Sign(t.Context(), "checkpoint", msg)
		if err != nil {
			t.Fatal(err)
		}
		if old.Equal(next) || !ed25519.Verify(old, msg, before) || !ed25519.Verify(next, msg, after) || ed25519.Verify(old, msg, after) {
			t.Fatal("a rotated signing key is not simply another key")
		}
	})
}
