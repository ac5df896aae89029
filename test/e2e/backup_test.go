package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/storage"
)

// TestBackupDrill loses a stack of an engine with its volumes, and has it back from a directory.
func TestBackupDrill(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, site = "e2e-backup", "http://127.0.0.1:41080"
	c := newCheckout(t)
	c.remove(t, stack)
	directory := t.TempDir()
	if err := os.Chmod(directory, 0o777); err != nil { // the service's user is nobody's here
		t.Fatal(err)
	}

	d := newDrill(t, c, stack, filepath.Join(directory, stack), func() string { return site })
	c.settings(t, stack, "overlay: prod\nportOffset: 33000\nmodel: {base: tiny}\n"+
		"signIn: {accounts: true}\n"+collections+"}\n"+d.backups("directory: "+directory))
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "what-the-backups-say")
	d.run(t, func() { c.must(t, 20*time.Minute, "bin/codexctl", "up", stack) })
	listsBackups(t, c, stack)
	checkHardening(t, c.containers(t, stack), false)
	noChanges(t, c, stack)
	c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
	noChanges(t, c, stack)
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// TestKubernetesBackupDrill loses a stack of a cluster with its claims, and has it back from a storage
// of S3.
func TestKubernetesBackupDrill(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-backup"
	c := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	n.more = []string{stacks.Knowledge, stacks.Backup}
	c.ownWeights(t)
	u, err := url.Parse(n.config.Host) // at this machine's address, which pods reach
	if err != nil {
		t.Fatal(err)
	}
	if net.ParseIP(u.Hostname()) == nil {
		t.Fatalf("the API server is at %s, which is no address", n.config.Host)
	}
	s := storage.Start(t, u.Hostname())
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}

	d := newDrill(t, c, stack, filepath.Join(s.Dir, storage.Bucket, stack),
		func() string { return c.url(t, stack) })
	c.settings(t, stack, "overlay: prod\ntarget: kubernetes\nmodel: {base: ./tiny.gguf}\n"+
		behindGateway+"signIn: {accounts: true}\n"+collections+"}\n"+
		"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}, knowledge-data: {size: 1Gi}}\n"+
		d.backups(fmt.Sprintf("s3: {url: %q, bucket: %s, accessKey: %s, ca: %q}", s.URL,
			storage.Bucket, s.AccessKey, ca)))
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "what-the-backups-say")
	c.secret(t, stack, "codexcontinue:backupSecretKey", s.SecretKey)
	d.run(t, func() { upServes(t, c, n, stack, "--load", "--into", "containerd="+containerd) })
	noChanges(t, c, stack)
	listsBackups(t, c, stack)
	t.Run("an operator looks inside", func(t *testing.T) { looksInside(t, c, stack) })
	t.Run("a command of its own", func(t *testing.T) { runsOnce(t, c, stack) })
	t.Run("maintenance", func(t *testing.T) { showsNotice(t, c, stack, d.site()) })
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// listsBackups checks that the list has backups, each with its size, as JSON and as a table.
func listsBackups(t *testing.T, c *checkout, stack string) {
	t.Helper()
	var list []struct {
		Name  string
		Bytes int64
	}
	said := c.must(t, time.Minute, "bin/codexctl", "backup", "list", "--json", stack)
	if err := json.Unmarshal([]byte(said), &list); err != nil || len(list) == 0 {
		t.Fatalf("%v, the backups are\n%s", err, said)
	}

	table := c.must(t, time.Minute, "bin/codexctl", "backup", "list", stack)
	for _, b := range list {
		if b.Bytes <= 0 || b.Name == "" || !strings.Contains(table, b.Name) {
			t.Errorf("%+v is not in the table:\n%s", b, table)
		}
	}
}

// drill is what a stack has, and what becomes of it.
type drill struct {
	c     *checkout
	stack string
	files string // where the backups' files are on this machine
	site  func() string
	key   string // the file of the identity
	to    string // its public key
}

func newDrill(t *testing.T, c *checkout, stack, files string, site func() string) *drill {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "backup.key")
	if err := os.WriteFile(key, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &drill{c, stack, files, site, key, id.Recipient().String()}
}

// backups returns the setting, with the place. A backup is made each minute, and none is dropped.
func (d *drill) backups(place string) string {
	return fmt.Sprintf("backup: {recipients: [%s], every: 1m, keep: {last: 1000}, %s}", d.to, place)
}

// conversation is one that was there, as the API gives it.
type conversation struct {
	id   string
	body []byte
	at   time.Time // when it was whole
}

// asks asks a question in a conversation of its own.
func (d *drill) asks(t *testing.T, who *person, question string) conversation {
	t.Helper()
	x, err := d.tries(t, who, question)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// tries is asks for a goroutine of its own.
func (d *drill) tries(t *testing.T, who *person, question string) (x conversation, err error) {
	message, err := json.Marshal(map[string]string{"message": question})
	if err != nil {
		return x, err
	}
	said, err := ask(t.Context(), who.client(), http.MethodPost, who.site+"/api/chat", message)
	id := conversationID.FindSubmatch(said)
	if err != nil || id == nil || !bytes.Contains(said, []byte("event: done")) {
		return x, fmt.Errorf("%q: %w, %s", question, err, said)
	}
	x.id, x.at = string(id[1]), time.Now()
	x.body, err = d.reads(t, who, x.id)
	return x, err
}

func (d *drill) reads(t *testing.T, who *person, id string) ([]byte, error) {
	return ask(t.Context(), who.client(), http.MethodGet, who.site+"/api/conversations/"+id, nil)
}

// ids returns those of all conversations of the person.
func (d *drill) ids(t *testing.T, who *person) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for q := (url.Values{"limit": {"100"}}); ; {
		b, err := ask(t.Context(), who.client(), http.MethodGet,
			who.site+"/api/conversations?"+q.Encode(), nil)
		var page struct {
			Conversations []struct{ ID string }
			Next          string
		}
		if err == nil {
			err = json.Unmarshal(b, &page)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page.Conversations {
			all[x.ID] = true
		}
		if page.Next == "" {
			return all
		}
		q.Set("cursor", page.Next)
	}
}

// has fails the test unless the person has the conversations, to the letter, and no others but some
// that may be there.
func (d *drill) has(t *testing.T, who *person, want []conversation, maybe map[string]bool) {
	t.Helper()
	there, missing := d.ids(t, who), 0
	for _, x := range want {
		b, err := d.reads(t, who, x.id)
		if err != nil || !bytes.Equal(b, x.body) || !there[x.id] {
			missing++
			t.Errorf("%s: %v\n%s\nwas\n%s", x.id, err, b, x.body)
		}
		delete(there, x.id)
	}
	for id := range there {
		if !maybe[id] {
			t.Errorf("%s has %s, which was not there", who.name, id)
		}
	}
	t.Logf("of %d conversations of %s %d are there, to the letter", len(want), who.name,
		len(want)-missing)
}

// backup makes a backup, and returns when it was begun.
func (d *drill) backup(t *testing.T) (name string, begun time.Time) {
	t.Helper()
	name = strings.TrimSpace(d.c.must(t, 5*time.Minute, "bin/codexctl", "backup", "create", d.stack))
	kind, _, begun := archive.Parse(archive.File(name))
	if kind != archive.Sealed {
		t.Fatalf("backup create says %q", name)
	}
	return name, begun
}

func (d *drill) restore(t *testing.T, words ...string) string {
	t.Helper()
	args := append([]string{"restore", d.stack, "--yes", "--identity", d.key}, words...)
	start := time.Now()
	out, said, err := d.c.run(t, 15*time.Minute, "bin/codexctl", args...)
	if err != nil {
		t.Fatalf("restore: %v\n%s\n%s", err, out, said)
	}
	time.Sleep(2 * time.Second) // the gates let people in again within one, on a machine with time for it
	d.opens(t)
	t.Logf("restored in %s:\n%s", time.Since(start).Round(time.Second/10), said)
	return out + said
}

// opens waits until all gates let people in, each of which looks for itself whether it may.
func (d *drill) opens(t *testing.T) {
	t.Helper()
	client, row := &http.Client{Transport: insecure(), Timeout: time.Minute}, 0
	page := d.site() + "/sign-in"
	await(t, "the gates to let people in", func() bool {
		for ; row < 20; row++ {
			resp, err := client.Get(page)
			if err != nil {
				row = 0
				return false
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				row = 0
				return false
			}
		}
		return true
	})
}

func (d *drill) run(t *testing.T, up func()) {
	t.Helper()
	up()
	ada := d.c.invite(t, d.stack, d.site(), "ada", "--admin")
	bob := ada.invite(t, "bob")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, visits), []byte(visit), 0o600); err != nil {
		t.Fatal(err)
	}
	d.c.must(t, time.Minute, "bin/codexctl", "knowledge", "add", d.stack, "handbook",
		filepath.Join(folder, visits))

	var before []conversation
	for i := range 10 {
		before = append(before, d.asks(t, ada, fmt.Sprintf("What is the number %d?", i)))
	}
	d.asks(t, bob, "What is kept of me?")

	// Somebody asks while the backup is made: what was whole before it is in it.
	var meanwhile []conversation
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			x, err := d.tries(t, ada, fmt.Sprintf("What is asked meanwhile, %d?", n))
			if err != nil {
				t.Error(err)
				return
			}
			meanwhile = append(meanwhile, x)
		}
	}()
	time.Sleep(2 * time.Second)
	d.c.must(t, time.Minute, "bin/codexctl", "user", "invite", "--stack", d.stack, "carol")
	first, begun := d.backup(t)
	close(stop)
	<-stopped
	maybe := map[string]bool{}
	var last time.Time
	for _, x := range meanwhile {
		if x.at.Before(begun) {
			before, last = append(before, x), x.at
		} else {
			maybe[x.id] = true
		}
	}
	t.Logf("%d conversations were whole before the backup began, the last one %s before; %d came later",
		len(before), begun.Sub(last).Round(time.Millisecond), len(maybe))

	d.c.must(t, time.Minute, "bin/codexctl", "backup", "verify", d.stack)
	d.c.must(t, time.Minute, "bin/codexctl", "backup", "verify", d.stack, first, "--identity", d.key)
	d.weights(t)
	d.unreadable(t, "What is the number", "handbook", "carol", "weights of one's own")

	// The service writes down who was erased before it ends with the stack.
	d.c.must(t, time.Minute, "bin/codexctl", "user", "erase", "--stack", d.stack, "--yes", "bob")
	d.state(t)

	d.c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", d.stack)
	up()
	d.restore(t, first)
	ada = ada.at(t, d.site())
	d.has(t, ada, before, maybe)
	d.erased(t, bob)
	people := d.c.must(t, time.Minute, "bin/codexctl", "user", "list", "--stack", d.stack)
	if strings.Contains(people, "carol") {
		t.Errorf("an invitation of the backup is good:\n%s", people)
	}
	if list := d.c.must(t, time.Minute, "bin/codexctl", "knowledge", "list", d.stack, "handbook"); !strings.Contains(list, visits) {
		t.Errorf("the documents are\n%s", list)
	}
	d.c.must(t, time.Minute, "bin/codexctl", "audit", d.stack, "--verify")
	d.again(t, ada, before, maybe)
}

var deletedAgain = regexp.MustCompile(`done again since the backup: [1-9][0-9]* delete`)

// again restores a backup of the schedule into the stack that runs, from a copy: what was deleted since
// stays deleted, which the stack's own place knows, what came since is gone, and the audit goes on.
func (d *drill) again(t *testing.T, ada *person, before []conversation, maybe map[string]bool) {
	t.Helper()
	name := d.scheduled(t, time.Now())
	folder := d.copied(t)
	deleted := before[0]
	_, err := ask(t.Context(), ada.client(), http.MethodDelete,
		ada.site+"/api/conversations/"+deleted.id, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.asks(t, ada, "What came after the backup?")
	records := d.records(t)

	// Acts of shortly before the backup are done again as well: clocks may differ.
	if said := d.restore(t, name, "--from", folder); !deletedAgain.MatchString(said) {
		t.Error("the deletion was not done again")
	}
	ada = ada.at(t, d.site())
	d.has(t, ada, before[1:], maybe)
	after := d.records(t)
	if len(after) < len(records) || strings.Join(after[:len(records)], "\n") != strings.Join(records, "\n") {
		t.Errorf("of %d records of the audit there are %d, or others", len(records), len(after))
	}
	d.c.must(t, time.Minute, "bin/codexctl", "audit", d.stack, "--verify")
}

// scheduled waits for a backup that was begun after the time, which nobody asks for, and returns its
// name.
func (d *drill) scheduled(t *testing.T, after time.Time) (name string) {
	t.Helper()
	await(t, "a backup of the schedule", func() bool {
		files, err := os.ReadDir(d.files)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files { // the summary is written last
			if kind, stem, at := archive.Parse(f.Name()); kind == archive.Sum && at.After(after) {
				name = stem
			}
		}
		return name != ""
	})
	t.Logf("%s was made %s after it was waited for", name, time.Since(after).Round(time.Second))
	d.c.must(t, time.Minute, "bin/codexctl", "backup", "verify", d.stack, name)
	return name
}

// copied returns a copy of the backups' files.
func (d *drill) copied(t *testing.T) string {
	t.Helper()
	files, err := os.ReadDir(d.files)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, f := range files {
		if kind, _, _ := archive.Parse(f.Name()); kind == archive.Other { // it is being written
			continue
		}
		b, err := os.ReadFile(filepath.Join(d.files, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, f.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// weights gives the service weights, of several parts in a storage of S3, and reads them again. It
// asks for them once.
func (d *drill) weights(t *testing.T) {
	t.Helper()
	content := bytes.Repeat([]byte("weights of one's own. "), 2<<20)
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	folder := t.TempDir()
	given, got := filepath.Join(folder, "given"), filepath.Join(folder, "got")
	if err := os.WriteFile(given, content, 0o600); err != nil {
		t.Fatal(err)
	}
	inside := "bin/codexctl exec -i -s " + d.stack + " " + stacks.Backup + " -- /" + stacks.Backup + " "
	for _, want := range []string{sum + "\n", ""} {
		said := d.c.must(t, time.Minute, "bash", "-c", inside+"missing "+sum+" < /dev/null")
		if said != want {
			t.Errorf("missing are %q, want %q", said, want)
		}
		if said != "" {
			d.c.must(t, 5*time.Minute, "bash", "-c", inside+"weights "+sum+" < "+given)
		}
	}

	d.c.must(t, 5*time.Minute, "bash", "-c",
		inside+"fetch "+archive.WeightsFile(sum)+" < /dev/null > "+got)
	f, err := os.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := os.ReadFile(d.key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.ParseIdentities(bytes.NewReader(ids))
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.OpenWeights(io.Discard, id, sum, f); err != nil {
		t.Error(err)
	}
}

// records returns the audit's records.
func (d *drill) records(t *testing.T) []string {
	t.Helper()
	out := d.c.must(t, time.Minute, "bin/codexctl", "audit", d.stack, "--json")
	return strings.Fields(strings.TrimSpace(out))
}

// erased fails the test if there is anything of the person.
func (d *drill) erased(t *testing.T, who *person) {
	t.Helper()
	if list := d.c.must(t, time.Minute, "bin/codexctl", "user", "list", "--stack", d.stack); strings.Contains(list, who.name) {
		t.Errorf("%s is there again:\n%s", who.name, list)
	}
	resp, err := who.client().Get(d.site() + "/api/conversations")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Errorf("%s is signed in again", who.name)
	}
}

// unreadable fails the test if a file of the backups has one of the texts. They are of five bytes at
// least: in a megabyte of what is encrypted, three are found one time in twenty.
func (d *drill) unreadable(t *testing.T, texts ...string) {
	t.Helper()
	files, err := os.ReadDir(d.files)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		if kind, _, _ := archive.Parse(f.Name()); kind == archive.Other { // it is being written
			continue
		}
		file := filepath.Join(d.files, f.Name())
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // it has just been dropped
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%s has %q in the clear", file, text)
			}
		}
	}
	if read < 3 {
		t.Errorf("%d files of backups are in %s", read, d.files)
	}
}

// state gets the settings and the state back, which are those that there are.
func (d *drill) state(t *testing.T) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "found")
	d.c.must(t, time.Minute, "bin/codexctl", "backup", "state", d.stack, folder, "--from", d.files,
		"--identity", d.key)
	settings := "Pulumi." + d.stack + ".yaml"
	got, err := os.ReadFile(filepath.Join(folder, settings))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(d.c.path(settings))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the settings are others, %v", err)
	}
	modelfile := filepath.Join("modelfiles", "codexcontinue", "Modelfile")
	got, err = os.ReadFile(filepath.Join(folder, modelfile))
	if err != nil {
		t.Fatal(err)
	}
	if want, err = os.ReadFile(d.c.path(modelfile)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the Modelfile is another one, %v", err)
	}
	state, err := os.ReadFile(filepath.Join(folder, "state.json"))
	if err != nil || !bytes.Contains(state, []byte(`"resources"`)) ||
		bytes.Contains(state, []byte("what-the-backups-say")) {
		t.Errorf("the state is none, or has a secret in the clear: %v", err)
	}
}
