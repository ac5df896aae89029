// Package store keeps conversations and answers in Redis, version 7.0 or later.
//
// # Keys
//
//	owner:<owner>:conversations   sorted set  the owner's conversation ids, by the time of their
//	                                          last change (ms)
//	owner:<owner>:usage           hash        the bytes of each conversation's messages by its id,
//	                                          and their total
//	owner:<owner>:erased          string      is there after an Erase, while nothing new is stored
//	owner:<owner>:message:<key>   hash        of a message or a new conversation with an idempotency
//	                                          key: its digest, answer (generation) and conversation,
//	                                          and acknowledged once it was sent again
//	owner:<owner>:requests        sorted set  the names of the keys before this, by when they expire
//	conversation:<id>             hash        owner, title, model, created_at, updated_at (ms),
//	                                          generation: the id of the answer being written, absent
//	                                          if there is none
//	conversation:<id>:messages    list        JSON of backendapi.Message, oldest first. While an
//	                                          answer is written its message is the last one, without
//	                                          content and in state streaming
//	conversation:<id>:replaced    list        the messages that the turn being answered replaces:
//	                                          they are back if the turn is withdrawn, else go
//	                                          with its end, or after ten minutes
//	generation:<id>               hash        owner, conversation, and the fields below
//	generation:<id>:events        stream      e: the event's name, d: its data: JSON, of a delta the
//	                                          plain text
//	generation:<id>:text          string      the text of all deltas, for whoever ends the answer
//	generation:<id>:thinking      string      the model's reasoning, likewise
//	conversation:<id>:ratings     hash        the verdicts on the conversation's answers by their ids
//	owner:<owner>:submission:<answer>  string  JSON of backendapi.Submission
//	owner:<owner>:submissions     sorted set  the answers of which there is one, by when it expires
//	owner:submitted               hash        the owners of all submissions by the answers' ids
//	running                       sorted set  owner:conversation:answer of the answers being
//	                                          written, by the time of the entry
//
// The fields of an answer, generation:<id>:
//
//	state     running or ended
//	fence     the fencing token of its writer
//	expires   the end of the lease (ms; 0 if it was given up)
//	suspect   set when the lease was found expired, and its writer has time to renew it
//	retries   how often the answer was begun anew
//	left_out  the number of messages that the model did not get
//	groups    those of the owner when the question was asked, as JSON
//	found     JSON of the passages that were found for the answer, with their texts, until its end:
//	          whoever goes on with it has the same
//	sources   JSON of backendapi.Sources
//	lease     the end of a lease as the former version reads it
//
// ml keeps its queue beside these, in keys that begin with {queue} (services/ml/internal/queue),
// and what people use, in keys that begin with usage (services/internal/usage).
//
// A conversation's keys live for the TTL after the last change (for ever when it is 0), its owner's
// list as long as the youngest conversation in it. An answer's keys live as long while it runs, and
// for Keep after its end: so long can a reader resume. The events are bounded by the greatest
// length of an answer (generation.MaxAnswer) and not by MAXLEN, which would drop the beginning of a
// long answer for a reader that resumes. With a conversation the events of its answers are deleted;
// of the one being written the end stays, for those who read it.
//
// # Where the keys lie
//
// Each script touches keys of one owner only: of the list, a conversation and an answer in it. In a
// Redis Cluster the names begin with the owner as hash tag, {alice}:conversation:<id>, so an
// owner's keys share a slot and nothing is split that belongs together; owners spread over the
// nodes. A single owner cannot outgrow a node, so an API client that acts for many people names
// them in its header: those without one are all "public". Elsewhere there is no tag, and the names
// are those of the first version. Conversations of a single Redis that are copied into a Cluster
// must be renamed.
//
// The keys that are no owner's are running and owner:submitted. They are no part of any script: an
// entry is a hint, put there before its answer begins and taken out after its end, and one too many
// does no harm. The latter is named as the owners' keys, so that the rights to those are enough.
//
// # Who may write
//
// Every change is one Lua script, so no reader sees half of one. Whoever writes an answer holds a
// lease, a time of Redis's own clock in the answer's hash, and renews it. When it has expired
// anybody may take the answer over (Claim), which raises the fencing token: every write, renewal
// and ending with an older token is refused with ErrSuperseded, so a writer that was only slow does
// no harm. An answer ends exactly once, with the first call of End, wherever it comes from: the job
// that writes it, or DELETE on any instance. After that every write of the job is refused with
// ErrEnded: the job learns so that it was stopped. An answer without a fencing token was begun by
// the former version: it is not taken over, but ended when nobody holds its lease (Reap). Instances
// of that version see a lease of the others' answers that is long, and leave them alone.
//
// # A message is stored once
//
// A message's key is looked up and stored by the script that stores the message, that of a new
// conversation likewise. Whoever sends it
// again hears of the first one's answer, and from then on the message cannot be taken back: a
// refusal by ml becomes an event of the answer.
//
// # A turn may replace others
//
// A question that is asked again, or in other words, takes the place of the end of a conversation.
// The turn names the answers that go by their ids, the first and the last one, so that nothing goes
// that came since. They go in the script that stores it, with their events and out of the account,
// and come back in the one that takes it back, but for the events. No former version of an answer
// is kept.
//
// # Nothing is left
//
// Erase deletes all of an owner: it marks the owner first, in the account, and each script that
// stores something new looks there. So what another request stores is either there before the mark,
// and found, or refused. The keys of requests are found by their list.
//
// # When Redis fails
//
// A script is not sent again unless Redis said that it did nothing (see Store.run): a lost reply is
// an error. Writes that are safe to repeat are repeated by the job for up to Outage, and readers
// wait as long at the place where they are, so an answer outlives the time that Sentinels or a
// Cluster take to let a replica take over. A lease may expire meanwhile with its writer alive;
// Claim leaves it Grace, once, to renew it. Replicas lag: what the old master took and did not pass
// on is lost. An answer of which text is lost ends with an error, as its readers have seen more
// than there is; it is never patched, which would show text twice.
//
// # When Redis is full
//
// At maxmemory Redis refuses a script unless its first line allows it to run all the same, so
// nothing is half stored. Those that store a new message or conversation are refused, with
// ErrStorageFull. Those that read, delete and end may run, and those that write an answer that
// has begun, as it is bounded. Transactions (MULTI) are refused then, also those that only
// read, so there are none.
//
// One that cannot write to its disk refuses every change, and PING, with MISCONF: ErrDiskFull.
// Whatever reads changes nothing, or bears that it cannot.
package store
