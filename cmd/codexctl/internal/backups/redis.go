package backups

import (
	"bytes"
	"fmt"
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
rm -rf restored
mv restoring restored
trap - EXIT
`

// Drop is a script as Receive is, without input, which drops what Receive has kept.
const Drop = `rm -rf "$1/restoring"`

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
// They put up the notice of maintenance, as JSON; end the sessions; drop the invitations and the codes
// for new passwords, which may have been used or taken back since; and add the records of the audit
// that came after it. records are those of the stack that runs, from one that is in the backup on.
// Where they do not go on with the backup's, none is added.
func Tail(notice string, records []Record) []byte {
	var b bytes.Buffer
	command(&b, "SELECT", "0")
	command(&b, "SET", maintenance, notice)
	command(&b, "EVAL", endSessions, "0", "gate:session:*", "gate:sessions:*", "gate:sids:*")
	command(&b, "DEL", invitations)
	for _, r := range records {
		command(&b, "EVAL", goOn, "3", auditDays, auditDay+r.Day, auditMark, r.Line, r.Day)
	}
	command(&b, "DEL", auditMark)
	return b.Bytes()
}

// command writes a command as Redis reads it.
func command(b *bytes.Buffer, words ...string) {
	fmt.Fprintf(b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(b, "$%d\r\n%s\r\n", len(w), w)
	}
}
