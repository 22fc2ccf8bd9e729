package parquet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

var (
	errNotUTF8   = errors.New("a text is not UTF-8")
	errTimeOfDay = errors.New("a time lies outside the day")
	errDecimal   = errors.New("a decimal is empty or has too many bytes")
)

// appendText appends what a value, given as it is in the file, says.
func (l *leaf) appendText(dst, raw []byte) ([]byte, error) {
	switch l.kind {
	case kindText:
		if !utf8.Valid(raw) {
			return dst, errNotUTF8
		}
		return append(dst, raw...), nil
	case kindBinary:
		if !utf8.Valid(raw) {
			return hex.AppendEncode(dst, raw), nil
		}
		return append(dst, raw...), nil
	case kindBool:
		return strconv.AppendBool(dst, raw[0] != 0), nil
	case kindInt:
		return strconv.AppendInt(dst, l.int(raw), 10), nil
	case kindUint:
		return strconv.AppendUint(dst, l.uint(raw), 10), nil
	case kindFloat:
		if l.physical == typeFloat {
			return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))), 32), nil
		}
		return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(raw)), 64), nil
	case kindDecimal:
		return l.appendDecimal(dst, raw)
	case kindDate:
		return appendDate(dst, int64(int32(binary.LittleEndian.Uint32(raw)))), nil
	case kindTime:
		v, per := l.int(raw), l.perSecond()
		if v < 0 || v > 86400*per {
			return dst, errTimeOfDay
		}
		dst = appendTime(dst, v/per, v%per, per)
		if l.logical.utc {
			dst = append(dst, 'Z')
		}
		return dst, nil
	case kindTimestamp:
		v, per := l.int(raw), l.perSecond()
		dst = appendTimestamp(dst, floorDiv(v, per), v-floorDiv(v, per)*per, per)
		if l.logical.utc {
			dst = append(dst, 'Z')
		}
		return dst, nil
	case kindInt96:
		nanos := int64(binary.LittleEndian.Uint64(raw))
		if nanos < 0 || nanos >= 86400e9 {
			return dst, errTimeOfDay
		}
		day := int64(int32(binary.LittleEndian.Uint32(raw[8:]))) - julianEpoch
		return appendTimestamp(dst, day*86400+nanos/1e9, nanos%1e9, 1e9), nil
	case kindUUID:
		return appendUUID(dst, raw), nil
	}
	return hex.AppendEncode(dst, raw), nil
}

// parseText appends the value that text says, as it is in the file. It answers
// false where text is none of the column's type.
func (l *leaf) parseText(dst, text []byte) ([]byte, bool) {
	switch l.kind {
	case kindText, kindBinary:
		if !utf8.Valid(text) {
			return dst, false
		}
		return append(dst, text...), true
	case kindBool:
		switch string(text) {
		case "true":
			return append(dst, 1), true
		case "false":
			return append(dst, 0), true
		}
		return dst, false
	case kindInt:
		v, err := strconv.ParseInt(string(text), 10, l.bits())
		return l.appendInt(dst, uint64(v)), err == nil
	case kindUint:
		v, err := strconv.ParseUint(string(text), 10, l.bits())
		return l.appendInt(dst, v), err == nil
	case kindFloat:
		return l.parseFloat(dst, text)
	case kindDecimal:
		return l.parseDecimal(dst, text)
	case kindDate:
		day, rest, ok := parseDate(text)
		if !ok || len(rest) > 0 || day < math.MinInt32 || day > math.MaxInt32 {
			return dst, false
		}
		return binary.LittleEndian.AppendUint32(dst, uint32(int32(day))), true
	case kindTime:
		text, ok := l.zone(text)
		if !ok {
			return dst, false
		}
		sec, frac, ok := parseTime(text, l.perSecond())
		return l.appendInt(dst, uint64(sec*l.perSecond()+frac)), ok
	case kindTimestamp:
		text, ok := l.zone(text)
		if !ok {
			return dst, false
		}
		per := l.perSecond()
		sec, frac, ok := parseTimestamp(text, per)
		if !ok || sec < math.MinInt64/per || sec >= math.MaxInt64/per {
			return dst, false
		}
		return l.appendInt(dst, uint64(sec*per+frac)), true
	case kindInt96:
		sec, frac, ok := parseTimestamp(text, 1e9)
		day := floorDiv(sec, 86400)
		if j := day + julianEpoch; !ok || j < math.MinInt32 || j > math.MaxInt32 {
			return dst, false
		}
		dst = binary.LittleEndian.AppendUint64(dst, uint64((sec-day*86400)*1e9+frac))
		return binary.LittleEndian.AppendUint32(dst, uint32(int32(day+julianEpoch))), true
	case kindUUID:
		return parseUUID(dst, text)
	}
	return dst, false
}

func (l *leaf) int(raw []byte) int64 {
	if l.physical == typeInt32 {
		return int64(int32(binary.LittleEndian.Uint32(raw)))
	}
	return int64(binary.LittleEndian.Uint64(raw))
}

func (l *leaf) uint(raw []byte) uint64 {
	if l.physical == typeInt32 {
		return uint64(binary.LittleEndian.Uint32(raw))
	}
	return binary.LittleEndian.Uint64(raw)
}

func (l *leaf) appendInt(dst []byte, v uint64) []byte {
	if l.physical == typeInt32 {
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(dst, v)
}

func (l *leaf) bits() int {
	if l.logical.member == logicalInt {
		return int(l.logical.width)
	}
	return 8 * l.width()
}

// perSecond is the units of a time in a second.
func (l *leaf) perSecond() int64 {
	switch l.logical.unit {
	case 1:
		return 1e3
	case 2:
		return 1e6
	}
	return 1e9
}

// zone takes the Z off that a time adjusted to UTC must have, and others not.
func (l *leaf) zone(text []byte) ([]byte, bool) {
	z := len(text) > 0 && text[len(text)-1] == 'Z'
	if z != l.logical.utc {
		return nil, false
	}
	if z {
		text = text[:len(text)-1]
	}
	return text, true
}

// appendFloat writes the shortest decimal that reads back the same: without an
// exponent from 1e-6 to 1e21, as ECMAScript does.
func appendFloat(dst []byte, v float64, bits int) []byte {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...)
	case a != 0 && (a < 1e-6 || a >= 1e21):
		return strconv.AppendFloat(dst, v, 'e', -1, bits)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, bits)
}

func (l *leaf) parseFloat(dst, text []byte) ([]byte, bool) {
	bits := 8 * l.width()
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
	default: // ParseFloat reads more: hexadecimal, "nan", 1_000
		for _, c := range text {
			if c-'0' > 9 && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
				return dst, false
			}
		}
	}
	v, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return dst, false
	}
	if bits == 32 {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v))), true
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), true
}

func (l *leaf) appendDecimal(dst, raw []byte) ([]byte, error) {
	var digits []byte
	negative := false
	if l.physical == typeInt32 || l.physical == typeInt64 {
		v := l.int(raw)
		negative = v < 0
		u := uint64(v)
		if negative {
			u = -u
		}
		var space [20]byte
		digits = strconv.AppendUint(space[:0], u, 10)
	} else {
		if len(raw) == 0 || len(raw) > maxDecimal {
			return dst, errDecimal
		}
		v := new(big.Int).SetBytes(raw)
		if negative = raw[0]&0x80 != 0; negative {
			v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
			v.Neg(v)
		}
		digits = v.Append(nil, 10)
	}
	if negative {
		dst = append(dst, '-')
	}
	scale := int(l.scale)
	if whole := len(digits) - scale; whole > 0 {
		dst = append(dst, digits[:whole]...)
		digits = digits[whole:]
	} else {
		dst = append(dst, '0')
	}
	if scale > 0 {
		dst = append(dst, '.')
		for range scale - len(digits) {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	}
	return dst, nil
}

func (l *leaf) parseDecimal(dst, text []byte) ([]byte, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	scale := int(l.scale)
	digits := make([]byte, 0, 64)
	point := -1
	for i, c := range text {
		switch {
		case c == '.' && point < 0 && i > 0:
			point = len(digits)
		case c-'0' <= 9:
			if len(digits) > 2*maxScale {
				return dst, false
			}
			digits = append(digits, c)
		default:
			return dst, false
		}
	}
	if point < 0 {
		point = len(digits)
	} else if point == len(digits) {
		return dst, false
	}
	if point == 0 {
		return dst, false
	}
	for len(digits)-point < scale {
		digits = append(digits, '0')
	}
	for len(digits)-point > scale { // more digits are no value of this type, but for zeros
		if digits[len(digits)-1] != '0' {
			return dst, false
		}
		digits = digits[:len(digits)-1]
	}
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	if len(digits) > int(l.precision) {
		return dst, false
	}
	v, ok := new(big.Int).SetString(string(digits), 10)
	if !ok {
		return dst, false
	}
	if negative {
		v.Neg(v)
	}
	switch l.physical {
	case typeInt32, typeInt64:
		if !v.IsInt64() || l.physical == typeInt32 && int64(int32(v.Int64())) != v.Int64() {
			return dst, false
		}
		return l.appendInt(dst, uint64(v.Int64())), true
	case typeFixed:
		return appendTwos(dst, v, int(l.length))
	}
	return appendTwos(dst, v, v.BitLen()/8+1)
}

// appendTwos appends v in n bytes, big-endian, in two's complement.
func appendTwos(dst []byte, v *big.Int, n int) ([]byte, bool) {
	if v.Sign() < 0 {
		if new(big.Int).Not(v).BitLen() >= 8*n {
			return dst, false
		}
		v = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*n)))
	} else if v.BitLen() >= 8*n {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	v.FillBytes(dst[start:])
	return dst, true
}

func appendUUID(dst, raw []byte) []byte {
	for i, b := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, []byte{b})
	}
	return dst
}

func parseUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	var digits [32]byte
	n := 0
	for i, c := range text {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		digits[n] = c
		n++
	}
	out, err := hex.AppendDecode(dst, digits[:])
	if err != nil {
		return dst, false
	}
	return out, true
}
