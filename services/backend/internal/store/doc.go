// Package store keeps conversations and answers in Redis.
//
// # Keys
//
//	owner:<owner>:conversations     sorted set  the owner's conversation ids by the time of their last change (ms)
//	conversation:<id>               hash        owner, title, model, created_at, updated_at (ms), generation: the id of
//	                                            the answer being written, absent when there is none
//	conversation:<id>:messages      list        JSON of backendapi.Message, oldest first; while an answer is written its
//	                                            message is the last one, without content and in state streaming
//	generation:<id>                 hash        owner, conversation, state (running or ended), lease (ms), suspect: set
//	                                            when the lease was found expired and the writer has time to renew it
//	generation:<id>:events          stream      e: the event's name, d: its data: JSON, of a delta the plain text
//	generation:<id>:text            string      the text of all deltas, so that whoever ends an answer has it at hand
//
// A conversation's keys live for the TTL after the last change (for ever when it is 0), its owner's list as long as the
// youngest conversation in it. An answer's keys live as long while it runs, and for Keep after its end: so long can a
// reader resume. The events are bounded by the greatest length of an answer (generation.MaxAnswer) and not by MAXLEN,
// which would drop the beginning of a long answer for a reader that resumes.
//
// # Where the keys lie
//
// Each script and each transaction touches keys of one owner only: of the list, a conversation and an answer in it. In a
// Redis Cluster the names begin with the owner as hash tag, {alice}:conversation:<id>, so an owner's keys share a slot
// and nothing is split that belongs together; owners spread over the nodes. A single owner cannot outgrow a node, so an
// API client that acts for many people names them in its header: those without one are all "public". Elsewhere there is
// no tag, and the names are those of the first version. Conversations of a single Redis that are copied into a Cluster
// must be renamed.
//
// # Who may write
//
// Every change is one Lua script, so no reader sees half of one. Whoever writes an answer holds a lease, a time of
// Redis's own clock in the answer's hash, and renews it. An answer ends exactly once, with the first call of End,
// wherever it comes from: the job that wrote it, DELETE on any instance, or a reader that finds the lease expired because
// the instance is dead. After that every write of the job is refused with ErrEnded: the job learns so that it was
// stopped.
//
// # When Redis fails
//
// A script is not sent again unless Redis said that it did nothing (see Store.run): a lost reply is an error. Writes that
// are safe to repeat are repeated by the job for up to Outage, and readers wait as long at the place where they are, so
// an answer outlives the time that Sentinels or a Cluster take to let a replica take over. A lease may expire meanwhile
// with its writer alive; Reap leaves it half a lease more, once, to renew it. Replicas lag: what the old master took and
// did not pass on is lost. An answer of which text is lost ends with an error, as its readers have seen more than there
// is; it is never patched, which would show text twice.
package store
