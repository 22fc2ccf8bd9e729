package anonymize

import (
	"encoding/binary"
	"iter"
)

// AppendItem appends one value to a list field: its length as a varint, then
// its bytes. A list without items is an empty field.
func AppendItem(list, item []byte) []byte {
	list = binary.AppendUvarint(list, uint64(len(item)))
	return append(list, item...)
}

// Items yields the values of a list field. It ends at a malformed one.
func Items(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(list) > 0 {
			n, w := binary.Uvarint(list)
			if w <= 0 || n > uint64(len(list)-w) {
				return
			}
			if !yield(list[w : w+int(n) : w+int(n)]) {
				return
			}
			list = list[w+int(n):]
		}
	}
}
