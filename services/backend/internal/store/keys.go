package store

import "strings"

// keyspace names the keys. In a Redis Cluster the keys of an owner have the owner as their hash
// tag, and so lie in one hash slot, where a script may touch them all. Every request is on behalf
// of an owner, so the owner is always known. Elsewhere there are no tags: the names are those of
// the versions that knew no Cluster.
type keyspace struct{ tagged bool }

// of returns the owner's key with the name that the parts make. An owner has no braces (see the
// API's pattern), so the tag is the whole of it.
func (k keyspace) of(owner string, parts ...string) string {
	name := strings.Join(parts, ":")
	if k.tagged {
		return "{" + owner + "}:" + name
	}
	return name
}

func (k keyspace) list(owner string) string  { return k.of(owner, "owner", owner, "conversations") }
func (k keyspace) usage(owner string) string { return k.of(owner, "owner", owner, "usage") }

func (k keyspace) message(owner, key string) string {
	return k.of(owner, "owner", owner, "message", key)
}

// requests is where the names are of what message returns.
func (k keyspace) requests(owner string) string { return k.of(owner, "owner", owner, "requests") }

func (k keyspace) conversation(owner, id string) string { return k.of(owner, "conversation", id) }
func (k keyspace) messages(owner, id string) string {
	return k.of(owner, "conversation", id, "messages")
}

// replaced is where the messages are that a turn replaces, until it is certain that it stays.
func (k keyspace) replaced(owner, id string) string {
	return k.of(owner, "conversation", id, "replaced")
}

func (k keyspace) generation(owner, id string) string { return k.of(owner, "generation", id) }
func (k keyspace) events(owner, id string) string {
	return k.of(owner, "generation", id, "events")
}
func (k keyspace) text(owner, id string) string { return k.of(owner, "generation", id, "text") }
func (k keyspace) thinking(owner, id string) string {
	return k.of(owner, "generation", id, "thinking")
}

// ratings is where the verdicts on a conversation's answers are. The scripts make the name, too.
func (k keyspace) ratings(owner, id string) string {
	return k.of(owner, "conversation", id, "ratings")
}

// submissions is where the ids are of what submission returns.
func (k keyspace) submissions(owner string) string {
	return k.of(owner, "owner", owner, "submissions")
}

func (k keyspace) submission(owner, answer string) string {
	return k.of(owner, "owner", owner, "submission", answer)
}

// The keys that are no owner's: what is being written, and who has handed over what.
const (
	running   = "running"
	submitted = "owner:submitted"
)

// ofConversation returns the keys of a conversation and of its owner, as the scripts take them.
func (k keyspace) ofConversation(owner, id string) []string {
	return []string{k.conversation(owner, id), k.messages(owner, id), k.list(owner), k.usage(owner)}
}

// own returns an answer's own keys, as the scripts take them.
func (k keyspace) own(owner, id string) []string {
	return []string{
		k.generation(owner, id), k.events(owner, id), k.text(owner, id), k.thinking(owner, id),
	}
}

// ofGeneration returns the keys of an answer's conversation, its own, and that of the messages
// which its turn replaces, as the scripts take them.
func (k keyspace) ofGeneration(owner, conversation, id string) []string {
	keys := append(k.ofConversation(owner, conversation), k.own(owner, id)...)
	return append(keys, k.replaced(owner, conversation))
}
