package backups

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// server is a Redis on some data.
type server struct {
	*redis.Client
	cmd *exec.Cmd
	out bytes.Buffer
}

// launch has start.sh start Redis on the data as its container does, with so much address space in
// KiB, if any.
func launch(t *testing.T, data string, limit int) *server {
	t.Helper()
	peers.Find(t, "redis", "redis-server")
	port := peers.FreePort(t, "127.0.0.1")
	config := filepath.Join(t.TempDir(), "redis.conf")
	users := filepath.Join(filepath.Dir(config), "auth.conf")
	hash := sha256.Sum256([]byte("password"))
	for file, text := range map[string]string{
		config: fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nappendonly yes\nsave 3600 1\n", port, data),
		users: "user default reset ~* &* +@all\nuser all reset on #" + hex.EncodeToString(hash[:]) +
			" ~* +@all\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s := &server{}
	limited := "exec sh \"$@\""
	if limit > 0 {
		limited = fmt.Sprintf("ulimit -v %d; %s", limit, limited)
	}
	s.cmd = exec.Command("sh", "-c", limited, "sh", "../../../../stacks/redis/start.sh", users,
		filepath.Join(data, "passwords"), "1", config)
	s.cmd.Env = append(os.Environ(), "REDIS_CLI_OPTIONS=-p "+port)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.WaitDelay = time.Second // what else start.sh has begun has them as well
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.Client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, Username: "all",
		Password: "password", MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { s.Close() })
	return s
}

// stop ends what runs in the container.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
}

// start starts Redis on the data, and returns a client and how to stop it.
func start(t *testing.T, data string) (c *redis.Client, stop func()) {
	t.Helper()
	s := launch(t, data, 0)
	for end := time.Now().Add(time.Minute); s.Ping(t.Context()).Err() != nil; {
		if time.Now().After(end) {
			t.Fatalf("Redis does not answer:\n%s", s.out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return s.Client, s.stop
}

// script runs a script of a restore, and returns what it says.
func script(t *testing.T, text, data string, in []byte, sums ...string) (string, error) {
	t.Helper()
	words := append([]string{"-c", text, "sh", data}, sums...)
	c := exec.CommandContext(t.Context(), "sh", words...)
	c.Stdin = bytes.NewReader(in)
	out, err := c.CombinedOutput()
	return string(out), err
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// chain returns so many records of an audit, of which every third is of another day.
func chain(n int) (records []Record) {
	key, last := auditlog.NewKey("key"), ""
	for i := range n {
		day := fmt.Sprintf("2026-11-%02d", 20+i/3)
		r := auditlog.Record{Number: int64(i + 1), ID: fmt.Sprint("ID", i), Action: auditlog.Question,
			Outcome: auditlog.Done}
		if last != "" {
			r.Prev = auditlog.Hash(last)
		}
		last = key.Seal(r)
		records = append(records, Record{day, last})
	}
	return records
}

// record stores the records.
func record(t *testing.T, c *redis.Client, records []Record) {
	t.Helper()
	for _, r := range records {
		days, err := c.LRange(t.Context(), auditDays, -1, -1).Result()
		if err == nil && !slices.Contains(days, r.Day) {
			err = c.RPush(t.Context(), auditDays, r.Day).Err()
		}
		if err == nil {
			err = c.RPush(t.Context(), auditDay+r.Day, r.Line).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// recorded returns all records, after a check of their chain.
func recorded(t *testing.T, c *redis.Client) (records []Record) {
	t.Helper()
	days, err := c.LRange(t.Context(), auditDays, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	chain := auditlog.NewChain(auditlog.NewKey("key"))
	for _, day := range days {
		lines, err := c.LRange(t.Context(), auditDay+day, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if err := chain.Add(line); err != nil {
				t.Error(err)
			}
			records = append(records, Record{day, line})
		}
	}
	return records
}

// dump returns an RDB file of a Redis with some keys and the records.
func dump(t *testing.T, records []Record) []byte {
	t.Helper()
	dir := t.TempDir()
	c, stop := start(t, dir)
	defer stop()
	record(t, c, records)
	for _, err := range []error{
		c.Set(t.Context(), "conversation:1", "of the backup", 0).Err(),
		c.Set(t.Context(), "gate:accounts", "ada", 0).Err(),
		c.Set(t.Context(), "gate:session:abc", "signed in", time.Hour).Err(),
		c.SAdd(t.Context(), "gate:sessions:ada", "abc").Err(),
		c.Set(t.Context(), "gate:groups:ada", `["team"]`, time.Hour).Err(),
		c.HSet(t.Context(), "gate:invitations", "bob", "a code that was used since").Err(),
		c.Set(t.Context(), "gate:maintenance", "of the backup", 0).Err(),
		c.Save(t.Context()).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rdb, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return rdb
}

// TestRestoreRedis restores a backup into a Redis that runs: nothing changes before it starts again,
// and then it has the backup, without sessions and invitations, with the audit's later records, and
// shows the page of maintenance.
func TestRestoreRedis(t *testing.T) {
	all := chain(10)
	rdb := dump(t, all[:5])
	data := t.TempDir()
	c, stop := start(t, data)
	record(t, c, all)
	if err := c.Set(t.Context(), "conversation:2", "later", 0).Err(); err != nil {
		t.Fatal(err)
	}

	if said, err := script(t, Receive, data, rdb, sumOf(rdb)); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	tail := Tail(`{"message":"Back soon."}`, all[3:])
	if said, err := script(t, Finish, data, tail, sumOf(tail), sumOf(rdb)); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if v := c.Get(t.Context(), "conversation:2").Val(); v != "later" {
		t.Errorf("before it starts again it has %q", v)
	}

	stop()
	for i := range 2 { // it stays so
		c, stop = start(t, data)
		if i == 0 {
			if said, err := script(t, Loaded, data, nil); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		}
		if left := folders(t, data); left != "appendonlydir" {
			t.Errorf("there are %s", left)
		}
		got := map[string]string{}
		for _, key := range []string{"conversation:1", "conversation:2", "gate:accounts",
			"gate:maintenance", "gate:session:abc", "gate:sessions:ada", auditMark} {
			got[key] = c.Get(t.Context(), key).Val()
		}
		if got["conversation:1"] != "of the backup" || got["gate:accounts"] != "ada" ||
			got["gate:maintenance"] != `{"message":"Back soon."}` ||
			got["conversation:2"]+got["gate:session:abc"]+got[auditMark] != "" ||
			c.Exists(t.Context(), "gate:sessions:ada", "gate:invitations", "gate:groups:ada").Val() != 0 {
			t.Errorf("it has %q", got)
		}
		if !slices.Equal(recorded(t, c), all) {
			t.Errorf("of %d records there are %d", len(all), len(recorded(t, c)))
		}
		if err := c.BgRewriteAOF(t.Context()).Err(); err != nil {
			t.Error(err)
		}
		for strings.Contains(c.Info(t.Context(), "persistence").Val(), "rewrite_in_progress:1") {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
	}
}

// folders returns the names of the folders in the data, and of a snapshot beside them.
func folders(t *testing.T, data string) string {
	t.Helper()
	list, err := os.ReadDir(data)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// put puts a backup beside the data, and records that came after it, which the next start takes.
func put(t *testing.T, data string, rdb []byte, records ...Record) {
	t.Helper()
	tail := Tail("{}", records)
	for _, x := range []struct {
		script string
		in     []byte
	}{{Receive, rdb}, {Finish, tail}} {
		if said, err := script(t, x.script, data, x.in, sumOf(x.in), sumOf(rdb)); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}
}

// later makes data with a conversation that no backup has.
func later(t *testing.T) (data string) {
	t.Helper()
	data = t.TempDir()
	c, stop := start(t, data)
	defer stop()
	for _, err := range []error{
		c.Set(t.Context(), "conversation:2", "later", 0).Err(), c.Save(t.Context()).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// TestRestoreTooLarge: a backup for which Redis has not the memory does not take the data with it:
// the next start begins with them, and the restore is told.
func TestRestoreTooLarge(t *testing.T) {
	dir := t.TempDir()
	big, stop := start(t, dir)
	for i := range 4 {
		err := big.Set(t.Context(), fmt.Sprint("conversation:", i), strings.Repeat("x", 64<<20), 0).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := big.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	stop()
	rdb, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}

	if n := Memory(bytes.NewReader(rdb)); n < 4*64<<20 || n > 2*4*64<<20 {
		t.Errorf("it takes %d bytes", n)
	}

	data := later(t)
	put(t, data, rdb)
	s := launch(t, data, 256<<10) // an empty one takes less than half of that
	if err := s.cmd.Wait(); err == nil || !strings.Contains(s.out.String(), "OOM loading DB") {
		t.Fatalf("it ended with %v:\n%s", err, s.out.String())
	}
	s.stop()
	if said, err := script(t, Drop, data, nil); err == nil {
		t.Errorf("Redis has begun with it: %s", said)
	}

	for range 2 { // it stays so
		c, stop := start(t, data)
		if v := c.Get(t.Context(), "conversation:2").Val(); v != "later" {
			t.Errorf("it has %d bytes", len(v))
		}
		if left := folders(t, data); left != "appendonlydir refused" {
			t.Errorf("there are %s", left)
		}
		said, err := script(t, Loaded, data, nil)
		if err == nil || !strings.Contains(said, "has begun with what it had before") {
			t.Errorf("%v: %s", err, said)
		}
		stop()
	}
	if said, err := script(t, Drop, data, nil, Restarted); err != nil {
		t.Errorf("nothing was replaced: %v, %s", err, said)
	}

	put(t, data, dump(t, nil)) // one that is smaller
	start(t, data)
	if said, err := script(t, Loaded, data, nil); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// TestMemory reads how much memory Redis had, in each form in which Redis writes that, and nothing of
// what is no RDB file.
func TestMemory(t *testing.T) {
	const before = "REDIS0012\xfa\x09redis-ver\x058.2.1\xfa\x0aredis-bits\xc0@\xfa\x08used-mem"
	for rdb, want := range map[string]int64{
		before + "\xc0\x7f":             127,
		before + "\xc1\x00\x10":         4096,
		before + "\xc2\x00\x00\x00\x40": 1 << 30,
		before + "\x0a4294967296":       4 << 30,
		before + "\xc2\x00":             0,
		before + "\xc3":                 0,
		before + "\x03abc":              0,
		"REDIS0012\xfe\x00":             0,
		"REDIS":                         0,
		"noise that is long enough":     0,
	} {
		if got := Memory(strings.NewReader(rdb)); got != want {
			t.Errorf("%q: got %d, want %d", rdb, got, want)
		}
	}
}

// TestRestoreCrashed: wherever a start ends that takes a backup, or puts the former data back, the
// next one goes on with it.
func TestRestoreCrashed(t *testing.T) {
	rdb := dump(t, nil)
	for name, tt := range map[string]struct {
		steps string // what was done of it
		want  string // the conversation that there is then
	}{
		"renamed":          {"mv restored taken", "1"},
		"half taken":       {"mv restored taken; mkdir former; mv appendonlydir former", "1"},
		"almost taken":     {"mv restored taken; mkdir former; mv appendonlydir dump.rdb former", "1"},
		"not loaded":       {takes, "2"},
		"about to go back": {takes + "; mv former back", "2"},
		"half back": {takes + "; mv former back; rm -rf appendonlydir; " +
			"mv back/appendonlydir .", "2"},
		"almost back": {takes + "; mv former back; rm -rf appendonlydir; " +
			"mv back/appendonlydir back/dump.rdb .", "2"},
		// Redis has written since, and nothing has noted it.
		"loaded": {takes + "; sleep 0.1; touch appendonlydir/*.incr.aof", "1"},
		"noted":  {takes + "; mv former loaded", "1"},
	} {
		data := later(t)
		put(t, data, rdb)
		if said, err := script(t, `set -e; cd "$1"; `+tt.steps, data, nil); err != nil {
			t.Fatalf("%s: %v, %s", name, err, said)
		}
		for range 2 {
			c, stop := start(t, data)
			for id, value := range map[string]string{"1": "of the backup", "2": "later"} {
				if got := c.Get(t.Context(), "conversation:"+id).Val(); (got == value) != (id == tt.want) {
					t.Errorf("%s: conversation %s is %q", name, id, got)
				}
			}
			for end := time.Now().Add(time.Minute); strings.Contains(folders(t, data), "former"); {
				if time.Now().After(end) {
					t.Fatalf("%s: there are %s", name, folders(t, data))
				}
				time.Sleep(20 * time.Millisecond)
			}
			stop()
		}
		note := map[string]string{"1": "loaded", "2": "refused"}[tt.want]
		if left := folders(t, data); left != "appendonlydir "+note {
			t.Errorf("%s: there are %s", name, left)
		}
		if left, _ := filepath.Glob(filepath.Join(data, note, "*")); len(left) > 0 {
			t.Errorf("%s: there are %q", name, left)
		}
	}
}

// takes is what a start does that takes a backup.
const takes = "mkdir former; mv appendonlydir dump.rdb former; mv restored appendonlydir"

// TestDrop: a backup that Redis has not begun with does not take the data's place later.
func TestDrop(t *testing.T) {
	data := later(t)
	put(t, data, dump(t, nil))
	if said, err := script(t, Drop, data, nil, Restarted); err != nil { // it was not
		t.Errorf("%v: %s", err, said)
	}
	c, stop := start(t, data)
	if v := c.Get(t.Context(), "conversation:2").Val(); v != "later" {
		t.Errorf("it has %q", v)
	}
	if left := folders(t, data); left != "appendonlydir" {
		t.Errorf("there are %s", left)
	}
	stop()

	// A start.sh of an earlier release takes it, and notes nothing.
	put(t, data, dump(t, nil))
	if said, err := script(t, `cd "$1"; rm -rf appendonlydir; mv restored appendonlydir`, data,
		nil); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if said, err := script(t, Drop, data, nil, Restarted); err == nil {
		t.Errorf("Redis has begun with it: %s", said)
	}
	if said, err := script(t, Drop, data, nil); err != nil {
		t.Errorf("nothing waits for a start: %v, %s", err, said)
	}
}

// TestRestoreOther: records that do not go on with the backup's are not added.
func TestRestoreOther(t *testing.T) {
	all := chain(6)
	rdb := dump(t, all[:4])
	data := t.TempDir()
	other := []Record{{all[4].Day, all[5].Line}, {all[4].Day, all[4].Line}}
	put(t, data, rdb, other...)
	c, _ := start(t, data)
	if !slices.Equal(recorded(t, c), all[:4]) {
		t.Errorf("there are %d records", len(recorded(t, c)))
	}
}

// TestReceiveRefused: what is damaged, cut or no RDB file leaves nothing.
func TestReceiveRefused(t *testing.T) {
	rdb := dump(t, nil)
	peers.Find(t, "redis", "redis-check-rdb")
	newer := append([]byte("REDIS9999"), rdb[9:]...)
	for name, tt := range map[string]struct {
		in   []byte
		sum  string
		want string
	}{
		"cut on its way":   {rdb[:len(rdb)-1], sumOf(rdb), "damaged on its way"},
		"cut":              {rdb[:len(rdb)/2], sumOf(rdb[:len(rdb)/2]), "this Redis cannot read it"},
		"of a newer Redis": {newer, sumOf(newer), "this Redis cannot read it"},
		"noise":            {[]byte("noise"), sumOf([]byte("noise")), "this Redis cannot read it"},
	} {
		data := t.TempDir()
		said, err := script(t, Receive, data, tt.in, tt.sum)
		if err == nil || !strings.Contains(said, tt.want) {
			t.Errorf("%s: %v, %s", name, err, said)
		}
		if left, err := os.ReadDir(data); len(left) > 0 || err != nil {
			t.Errorf("%s leaves %v, %v", name, left, err)
		}
	}
}

// TestFinishRefused: what another restore has put there meanwhile, and a tail that is cut, is not
// taken, and nothing is left.
func TestFinishRefused(t *testing.T) {
	rdb, tail := dump(t, nil), Tail("{}", nil)
	for want, sums := range map[string][2]string{
		"another restore has begun": {sumOf(tail), sumOf([]byte("mine"))},
		"damaged on its way":        {sumOf(tail[1:]), sumOf(rdb)},
	} {
		data := t.TempDir()
		if said, err := script(t, Receive, data, rdb, sumOf(rdb)); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		said, err := script(t, Finish, data, tail, sums[0], sums[1])
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("want %q: %v, %s", want, err, said)
		}
		if left, err := os.ReadDir(data); len(left) > 0 || err != nil {
			t.Errorf("%s leaves %v, %v", want, left, err)
		}
	}
}

// TestRestoreEnded: of a restore that ended before Redis was restarted nothing comes back later, and
// a start that crashed while it took one goes on with it.
func TestRestoreEnded(t *testing.T) {
	rdb := dump(t, nil)
	data := t.TempDir()
	c, stop := start(t, data)
	if err := c.Set(t.Context(), "conversation:2", "later", 0).Err(); err != nil {
		t.Fatal(err)
	}
	put(t, data, rdb)
	stop()
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(data, "restored"), old, old); err != nil {
		t.Fatal(err)
	}
	c, stop = start(t, data)
	if v := c.Get(t.Context(), "conversation:2").Val(); v != "later" {
		t.Errorf("after a restore that ended it has %q", v)
	}
	if _, err := os.Stat(filepath.Join(data, "restored")); err == nil {
		t.Error("it is still there")
	}

	put(t, data, rdb)
	stop()
	taken := filepath.Join(data, "taken")
	if err := errors.Join(os.Rename(filepath.Join(data, "restored"), taken),
		os.Remove(filepath.Join(data, "appendonlydir", manifest)),
		os.Chtimes(taken, old, old)); err != nil {
		t.Fatal(err)
	}
	c, _ = start(t, data)
	if v := c.Get(t.Context(), "conversation:1").Val(); v != "of the backup" {
		t.Errorf("after a crash it has %q", v)
	}
}
