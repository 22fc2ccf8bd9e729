package audit

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// A stored body is one byte that says how it is kept, and then
//
//	clear   salt (32 bytes), the entry as JSON
//	sealed  key name (16), nonce (12), AES-256-GCM over salt and JSON
//
// Only acts on the log itself that a reader without keys must understand are
// kept clear: they name nobody.
const (
	bodyClear  = 0
	bodySealed = 1

	nonceSize  = 12
	sealedHead = 1 + keyNameSize + nonceSize
)

var (
	errNoKey = errors.New("there is no key for it")
	errBody  = errors.New("not a body that this log writes")
)

// sealBody returns the stored form of salt and JSON. k nil: clear.
func sealBody(k *subjectKey, plain []byte) []byte {
	if k == nil {
		return append([]byte{bodyClear}, plain...)
	}
	b := make([]byte, sealedHead, sealedHead+len(plain)+16)
	b[0] = bodySealed
	copy(b[1:], k.name[:])
	nonce := b[1+keyNameSize : sealedHead]
	rand.Read(nonce) // never fails; 96 random bits are good for 2^32 bodies a key
	return k.aead.Seal(b, nonce, plain, b[:1+keyNameSize])
}

// bodyKey returns the name of the key that a stored body is sealed under.
func bodyKey(body []byte) (keyName, bool) {
	if len(body) < sealedHead || body[0] != bodySealed {
		return keyName{}, false
	}
	return keyName(body[1 : 1+keyNameSize]), true
}

// openBody returns a stored body's salt and JSON. keys may be nil. [errNoKey]
// says that the key is not there, or is not the one that this was sealed with.
func openBody(keys *keyring, body []byte) (salt, js []byte, err error) {
	var plain []byte
	switch {
	case len(body) > 0 && body[0] == bodyClear:
		plain = body[1:]
	default:
		name, ok := bodyKey(body)
		if !ok {
			return nil, nil, errBody
		}
		if keys == nil {
			return nil, nil, errNoKey
		}
		k, err := keys.named(name)
		if err != nil {
			return nil, nil, err
		}
		if plain, err = openSealed(k.aead, body); err != nil {
			return nil, nil, errNoKey
		}
	}
	if len(plain) < saltSize {
		return nil, nil, errBody
	}
	return plain[:saltSize], plain[saltSize:], nil
}

func openSealed(aead cipher.AEAD, body []byte) ([]byte, error) {
	return aead.Open(nil, body[1+keyNameSize:sealedHead], body[sealedHead:], body[:1+keyNameSize])
}

// record reads one record, and holds its content against its leaf: a reader
// must not be shown what the log does not stand for.
func (l *Log) record(seq uint64, body, raw []byte) (Record, error) {
	lf, err := parseLeaf(raw)
	if err != nil || lf.Seq != seq {
		return Record{}, damagedRecord(seq)
	}
	h := tlog.RecordHash(raw)
	r := Record{Seq: seq, Leaf: sallyport.DigestSum(h[:])}
	r.Entry = Entry{Time: lf.Time, Step: lf.Step, Phase: lf.Phase}
	if body == nil {
		tomb, ok := l.acts.Load().erased.find(seq)
		if !ok {
			return Record{}, damagedRecord(seq)
		}
		r.Erased = &tomb
		return r, nil
	}
	if sha256.Sum256(body) != lf.Sealed {
		return Record{}, damagedRecord(seq)
	}
	salt, js, err := openBody(l.keys, body)
	if errors.Is(err, errNoKey) {
		r.Sealed = true
		return r, nil
	}
	if err != nil && sallyport.KindOf(err) == sallyport.Unavailable {
		return Record{}, err
	}
	r.Entry = Entry{}
	if err != nil || commitment(salt, js) != lf.Body || json.Unmarshal(js, &r.Entry) != nil {
		return Record{}, damagedRecord(seq)
	}
	return r, nil
}

func damagedRecord(seq uint64) error {
	return sallyport.Errorf("read audit log", sallyport.Damaged, "Run `audit verify` on the file.", "record %d is not what was recorded", seq)
}

// agrees says whether a content is an entry of the leaf's time, step and phase.
func agrees(l leaf, js []byte) bool {
	var e struct {
		Time  time.Time `json:"time"`
		Step  string    `json:"step"`
		Phase Phase     `json:"phase"`
	}
	return json.Unmarshal(js, &e) == nil && e.Time.Equal(l.Time) && e.Step == l.Step && e.Phase == l.Phase
}
