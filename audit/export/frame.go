package export

import (
	"bytes"
	"io"
	"strconv"
)

// Frames puts its length before each message of a stream of lines and takes the
// line's end away: octet counting, which syslog over TLS demands (RFC 5425,
// section 4.3). The messages that [Syslog] and [CEF] write hold no line's end.
type Frames struct {
	to   io.Writer
	line []byte // of a message whose end has not come
	out  []byte
}

// NewFrames writes to w.
func NewFrames(w io.Writer) *Frames { return &Frames{to: w} }

// Write sends the messages that end in b, and keeps the rest for the next.
func (f *Frames) Write(b []byte) (int, error) {
	n := len(b)
	f.out = f.out[:0]
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		f.out = strconv.AppendInt(f.out, int64(len(f.line)+i), 10)
		f.out = append(append(append(f.out, ' '), f.line...), b[:i]...)
		f.line, b = f.line[:0], b[i+1:]
	}
	f.line = append(f.line, b...)
	if len(f.out) == 0 {
		return n, nil
	}
	if _, err := f.to.Write(f.out); err != nil {
		return 0, err
	}
	return n, nil
}

// Reset forgets a message that was begun and writes to w from now on.
func (f *Frames) Reset(w io.Writer) { f.to, f.line = w, f.line[:0] }
