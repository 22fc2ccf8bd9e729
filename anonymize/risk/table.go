package risk

import "math/bits"

// slot is one thing that is counted: its number in word 0 (0: the slot is
// free), then the words of its key, by which slots are ordered.
type slot interface{ [3]uint64 | [5]uint64 }

// before says whether a comes before b.
func before[S slot](a, b *S) bool {
	if (*a)[1] != (*b)[1] {
		return (*a)[1] < (*b)[1]
	}
	for i := 2; i < len(*a); i++ {
		if (*a)[i] != (*b)[i] {
			return (*a)[i] < (*b)[i]
		}
	}
	return false
}

func same[S slot](a, b *S) bool {
	if (*a)[1] != (*b)[1] || (*a)[2] != (*b)[2] {
		return false
	}
	for i := 3; i < len(*a); i++ {
		if (*a)[i] != (*b)[i] {
			return false
		}
	}
	return true
}

func bytesOf[S slot]() int64 { var s S; return 8 * int64(len(s)) }

const (
	shards     = 256
	firstHomes = 16 // of a shard when it is first used
	largeHomes = 8192
)

// table counts slots in shards that grow one by one, so that growing costs the
// memory of one shard more and no long pause. Its shards are ordered hash
// tables (O. Amble and D. Knuth, The Computer Journal 17(2), 1974): a slot's
// home rises with its key and a run of neighbors is kept in order, so that a
// shard read from end to end is sorted, looking for what is not there ends
// early, and growing copies in sequence. The last homes overflow into padding.
type table[S slot] struct {
	shard [shards][]S
	homes [shards]uint64
	used  [shards]int
}

func shardOf[S slot](k *S) int { return int((*k)[1] >> 56) }

// home is where a key's slot is looked for first: the key's place among all
// keys of the shard, scaled.
func home(word, homes uint64) int {
	hi, _ := bits.Mul64(word<<8, homes)
	return int(hi)
}

// limit is how many slots are used before a shard grows: it trades the time of
// a look-up for memory where there are many, at most 32 bytes a class.
func limit(homes uint64) int {
	if homes < largeHomes {
		return int(homes * 3 / 4)
	}
	return int(homes * 7 / 8)
}

func larger(homes uint64) uint64 {
	switch {
	case homes < firstHomes:
		return firstHomes
	case homes < 1024:
		return 4 * homes
	case homes < largeHomes:
		return 2 * homes
	}
	return homes + homes/8
}

func slots(homes uint64) int { return int(homes + min(homes/4+4, 512)) }

// add counts k[0] times key k. It reports false, and counts nothing, if the key
// is new and the shard must grow first.
func (t *table[S]) add(k *S) bool {
	s := shardOf(k)
	tab := t.shard[s]
	word := (*k)[1]
	i := home(word, t.homes[s])
	for ; i < len(tab); i++ {
		p := &tab[i]
		if (*p)[1] == word && same(p, k) && (*p)[0] != 0 {
			(*p)[0] += (*k)[0]
			return true
		}
		if (*p)[1] >= word && before(k, p) || (*p)[0] == 0 {
			break
		}
	}
	return t.insert(k, s, i)
}

// insert puts a new key at i, and what is there one further.
func (t *table[S]) insert(k *S, s, i int) bool {
	tab := t.shard[s]
	if t.used[s] >= limit(t.homes[s]) {
		return false
	}
	end := i
	for end < len(tab) && tab[end][0] != 0 {
		end++
	}
	if end >= len(tab) {
		return false
	}
	copy(tab[i+1:end+1], tab[i:end])
	tab[i] = *k
	t.used[s]++
	return true
}

// get returns the number of key k.
func (t *table[S]) get(k *S) uint64 {
	s := shardOf(k)
	tab := t.shard[s]
	for i := home((*k)[1], t.homes[s]); i < len(tab); i++ {
		p := &tab[i]
		if (*p)[0] == 0 || (*p)[1] > (*k)[1] {
			return 0
		}
		if same(p, k) {
			return (*p)[0]
		}
	}
	return 0
}

// spare reports whether a shard takes one more key, but for the rare case that
// its padding is full.
func (t *table[S]) spare(s int) bool { return t.used[s] < limit(t.homes[s]) }

// touch reads the place of a key that is about to be added, so that the cache
// misses of several overlap. Its answer has no meaning.
func (t *table[S]) touch(word uint64) uint64 {
	s := word >> 56
	if tab := t.shard[s]; len(tab) > 0 {
		return tab[home(word, t.homes[s])][0]
	}
	return 0
}

// next returns what shard s should grow to: more homes, or more padding if that
// is what is full.
func (t *table[S]) next(s int) (homes uint64, size int) {
	if homes = t.homes[s]; t.spare(s) {
		return homes, wider(len(t.shard[s]))
	}
	homes = larger(homes)
	return homes, slots(homes)
}

func wider(size int) int { return size + size/8 + 16 }

// resize moves a shard to one of size slots. It reports false, and changes
// nothing, if the padding is too small.
func (t *table[S]) resize(s int, homes uint64, size int) bool {
	tab := make([]S, size)
	next := 0
	for i := range t.shard[s] {
		p := &t.shard[s][i]
		if (*p)[0] == 0 {
			continue
		}
		next = max(next, home((*p)[1], homes))
		if next >= len(tab) {
			return false
		}
		tab[next] = *p
		next++
	}
	t.shard[s], t.homes[s] = tab, homes
	return true
}

// load returns how many keys there are and how many fit.
func (t *table[S]) load() (used, room int) {
	for s := range shards {
		used += t.used[s]
		room += limit(t.homes[s])
	}
	return used, room
}

// empty forgets all keys; keep says that the shards stay as large as they are.
func (t *table[S]) empty(keep bool) {
	if !keep {
		*t = table[S]{}
		return
	}
	for s := range shards {
		t.shard[s] = t.shard[s][:cap(t.shard[s])]
		clear(t.shard[s])
		t.used[s] = 0
	}
}

// bytes is the memory that the shards take.
func (t *table[S]) bytes() (n int64) {
	for s := range shards {
		n += int64(cap(t.shard[s])) * bytesOf[S]()
	}
	return n
}
