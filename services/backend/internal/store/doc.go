// Package store keeps conversations and answers in Redis.
//
// # Keys
//
//	owner:<owner>:conversations     sorted set  the owner's conversation ids by the time of their last change (ms)
//	conversation:<id>               hash        owner, title, model, created_at, updated_at (ms), generation: the id of
//	                                            the answer being written, absent when there is none
//	conversation:<id>:messages      list        JSON of backendapi.Message, oldest first; while an answer is written its
//	                                            message is the last one, without content and in state streaming
//	generation:<id>                 hash        owner, conversation, state (running or ended), lease (ms)
//	generation:<id>:events          stream      e: the event's name, d: its data: JSON, of a delta the plain text
//	generation:<id>:text            string      the text of all deltas, so that whoever ends an answer has it at hand
//
// A conversation's keys live for the TTL after the last change (for ever when it is 0), its owner's list as long as the
// youngest conversation in it. An answer's keys live as long while it runs, and for Keep after its end: so long can a
// reader resume. The events are bounded by the greatest length of an answer (generation.MaxAnswer) and not by MAXLEN,
// which would drop the beginning of a long answer for a reader that resumes.
//
// # Who may write
//
// Every change is one Lua script, so no reader sees half of one. Whoever writes an answer holds a lease, a time of
// Redis's own clock in the answer's hash, and renews it. An answer ends exactly once, with the first call of End,
// wherever it comes from: the job that wrote it, DELETE on any instance, or a reader that finds the lease expired because
// the instance is dead. After that every write of the job is refused with ErrEnded: the job learns so that it was
// stopped.
//
// Scripts touch keys of one owner, one conversation and one answer together, and one builds a key's name from what it
// read: this needs a single Redis (which is what the stack runs) and not a Redis Cluster.
package store
