package backups

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Redis begins with what it finds in a folder of append-only files: an RDB file as the base, and
// commands that it runs after it, before it answers anybody. A restore makes such a folder beside
// the data, and start.sh of Redis' container puts it into the data's place (stacks/redis).
const (
	base     = "appendonly.aof.1.base.rdb"
	tail     = "appendonly.aof.1.incr.aof"
	manifest = "appendonly.aof.manifest"
)

// Receive is a script for the shell of Redis' container, with the folder of its data and the SHA-256
// as its arguments. It reads an RDB file, and checks it.
const Receive = `set -eu
umask 077
cd "$1"
rm -rf restoring
mkdir restoring
trap 'rm -rf restoring' EXIT
cat >restoring/` + base + `
if [ "$(sha256sum <restoring/` + base + ` | cut -d' ' -f1)" != "$2" ]; then
	echo "it was damaged on its way here, or the disk is full" >&2
	exit 1
fi
if ! said=$(redis-check-rdb restoring/` + base + ` 2>&1); then
	printf '%s\n' "$said" | tail -n 5 >&2
	echo "this Redis cannot read it: it is damaged, or of a newer Redis" >&2
	exit 1
fi
trap - EXIT
`

// Finish is a script as Receive is, which reads the Tail; its third argument is the SHA-256 that
// Receive had, as somebody else may be restoring meanwhile. From then on Redis begins with the backup
// when it starts within an hour. If it fails nothing is left.
const Finish = `set -eu
umask 077
cd "$1"
trap 'rm -rf restoring' EXIT
cat >restoring/` + tail + `
if [ "$(sha256sum <restoring/` + tail + ` | cut -d' ' -f1)" != "$2" ]; then
	echo "it was damaged on its way here, or the disk is full" >&2
	exit 1
fi
if [ "$(sha256sum <restoring/` + base + ` | cut -d' ' -f1)" != "$3" ]; then
	echo "another restore has begun meanwhile" >&2
	exit 1
fi
printf 'file ` + base + ` seq 1 type b\nfile ` + tail + ` seq 1 type i\n' >restoring/` + manifest + `
sync
rm -rf restored loaded refused
mv restoring restored
trap - EXIT
`

// Drop is a script as Receive is, without input. It drops what Receive and Finish have kept, and fails
// if Redis has begun with that, or may have: where its second argument is Restarted, and Redis neither
// waits for a start nor has put its former data back.
const Drop = `set -eu
cd "$1"
rm -rf restoring
if [ -d restored ]; then
	mv restored restoring # whole, or a start has taken it meanwhile
	rm -rf restoring
elif [ -d taken ] || [ -d former ] || [ -d loaded ] ||
	{ [ "${2-}" = ` + Restarted + ` ] && [ ! -d refused ]; }; then
	echo "Redis has begun with it" >&2
	exit 1
fi
`

// Restarted says that Redis was restarted after Finish.
const Restarted = "restarted"

// Loaded is a script as Drop is, which fails unless Redis has begun with the backup, and has loaded all
// of it. start.sh notes that within a second of when Redis answers, and what it puts back if Redis ends
// before.
const Loaded = `set -eu
cd "$1"
tries=0
until [ -d loaded ]; do
	if [ -d refused ]; then
		echo "Redis ended while it loaded the backup, and has begun with what it had before; its log" \
			"says why. A backup needs as much memory as Redis used when it was made" >&2
		exit 1
	fi
	tries=$((tries + 1))
	if [ "$tries" -gt 60 ]; then
		echo "nothing says that the backup is loaded, which start.sh of this release does: if an earlier" \
			"one made the stack, run codexctl up before you run this again" >&2
		exit 1
	fi
	sleep 1
done
rm -rf loaded || : # start.sh empties it, too
`

// endSessions has everybody sign in again: who was signed out since must not be signed in.
const endSessions = `for _, pattern in ipairs(ARGV) do
	for _, key in ipairs(redis.call('KEYS', pattern)) do redis.call('UNLINK', key) end
end`

// goOn adds a record of the audit, if the records before it were all there: it follows the last one
// that the backup has. KEYS are the list of the days, that of the record's day, and a mark that is
// there once that one was found; ARGV the record and its day.
const goOn = `if redis.call('EXISTS', KEYS[3]) == 1 then
	if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[2] then redis.call('RPUSH', KEYS[1], ARGV[2]) end
	redis.call('RPUSH', KEYS[2], ARGV[1])
elseif redis.call('LINDEX', KEYS[2], -1) == ARGV[1] then
	redis.call('SET', KEYS[3], 1)
end`

// Names of the audit's lists; see services/internal/audit.
const (
	auditDays = "{audit}:days"
	auditDay  = "{audit}:"
	auditMark = "{audit}:restored"
)

// Names of what the gates keep; see package account and package maintenance there.
const (
	invitations = "gate:invitations"
	maintenance = "gate:maintenance"
)

// Record is a record of the audit, and the day (UTC) in whose list it is.
type Record struct{ Day, Line string }

// Tail returns the commands that Redis runs after it has read a backup, before it answers anybody.
// They put up the notice of maintenance, as JSON; end the sessions; drop the groups that people of a
// provider had, by which their keys count until they sign in again; drop the invitations and the codes
// for new passwords, which may have been used or taken back since; and add the records of the audit
// that came after it. records are those of the stack that runs, from one that is in the backup on.
// Where they do not go on with the backup's, none is added.
func Tail(notice string, records []Record) []byte {
	var b bytes.Buffer
	command(&b, "SELECT", "0")
	command(&b, "SET", maintenance, notice)
	command(&b, "EVAL", endSessions, "0", "gate:session:*", "gate:sessions:*", "gate:sids:*",
		"gate:groups:*")
	command(&b, "DEL", invitations)
	for _, r := range records {
		command(&b, "EVAL", goOn, "3", auditDays, auditDay+r.Day, auditMark, r.Line, r.Day)
	}
	command(&b, "DEL", auditMark)
	return b.Bytes()
}

// Memory returns how many bytes of memory Redis had in use when it wrote the RDB file, which says so
// at its beginning; 0 if it does not. The file is smaller: it is compressed.
func Memory(rdb io.Reader) int64 {
	r := bufio.NewReader(io.LimitReader(rdb, 4<<10))
	magic := make([]byte, len("REDIS0001"))
	if _, err := io.ReadFull(r, magic); err != nil || !bytes.HasPrefix(magic, []byte("REDIS")) {
		return 0
	}
	for {
		const field = 0xfa // what follows is a name and its value
		if op, err := r.ReadByte(); err != nil || op != field {
			return 0
		}
		name, err := word(r)
		if err != nil {
			return 0
		}
		value, err := word(r)
		if err != nil {
			return 0
		}
		if name == "used-mem" {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
}

// word reads a short string of an RDB file, or a number, which it returns in decimal.
func word(r *bufio.Reader) (string, error) {
	form, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	if form < 1<<6 { // a length
		b := make([]byte, form)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	if form < 0xc0 || form > 0xc2 {
		return "", errors.New("it is too long")
	}
	var b [4]byte
	size := 1 << (form - 0xc0)
	_, err = io.ReadFull(r, b[:size])
	return strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b[:])), 10), err
}

// command writes a command as Redis reads it.
func command(b *bytes.Buffer, words ...string) {
	fmt.Fprintf(b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(b, "$%d\r\n%s\r\n", len(w), w)
	}
}
