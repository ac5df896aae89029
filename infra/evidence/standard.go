package evidence

import (
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Where tests are that support several items.
const (
	gate     = "services/gate"
	records  = "services/internal/audit"
	account  = "services/gate/internal/account"
	session  = "services/gate/internal/session"
	identity = "services/internal/identity"
	api      = "services/backend/internal/api"
	stack    = "stacks"
	endToEnd = "test/e2e"
)

// standard is the technical safeguards, in their order: https://www.ecfr.gov/current/title-45/
// section-164.312. What is left to the operator on one target alone is told by on.
var standard = []struct {
	Item
	on     map[stacks.Target]string
	claims []claim
}{{
	Item: Item{
		Section: "164.312(a)(1)", Title: "Access control",
		Operator: "Grant accounts or groups to those who need them, and take them back. Have a " +
			"business associate contract (45 CFR 164.314) with whoever else runs the machine, " +
			"keeps the backups or lets people in as the identity provider.",
	},
	on: map[stacks.Target]string{
		stacks.Docker: "Keep the machine and its engine to few: who administers them reads " +
			"everything.",
		stacks.Kubernetes: "Keep the nodes and the cluster's API to few: who administers them, or " +
			"may read Secrets of the namespace or run a command in its pods, reads everything.",
	},
	claims: []claim{
		field(stacks.Gate, "SIGN_IN", "it lets in nobody whom it does not know",
			one(gateenv.Accounts, gateenv.OIDC)),
		rule("public-port", "has one way in, the edge"),
		rule("isolation", "keeps all services but the egress proxy on networks without a way out"),
		rule("redis-password", "keeps what people wrote behind a password"),
		test(api, "TestOwners", "conversations of others cannot be read, changed or found"),
		test("services/backend", "TestForgedIdentity",
			"what comes without a token of the gate, or with a forged one, is refused"),
		test(identity, "TestRefused", "a token that has expired, or is for another, is refused"),
		test(stack, "TestRedisUsers", "each service reaches its own keys in Redis alone"),
	},
}, {
	Item: Item{
		Section: "164.312(a)(2)(i)", Title: "Unique user identification",
		Operator: "Give each person an account of their own, and share none.",
	},
	claims: []claim{
		field(stacks.Gate, "SIGN_IN", "people sign in, each by a name of their own",
			one(gateenv.Accounts, gateenv.OIDC)),
		test(identity, "TestVerify", "a request inside names the person, signed"),
		test(account, "TestAcceptOnce", "an invitation makes one account, once"),
	},
}, {
	Item: Item{
		Section: "164.312(a)(2)(ii)", Title: "Emergency access procedure",
		Operator: "Write down who may use the way around sign-in, and when: who administers the " +
			"engine or the cluster reads what is stored of somebody with `codexctl user read`, gives " +
			"it to somebody else with `codexctl user move`, and invites an administrator with " +
			"`codexctl user invite --admin`. No administrator who signs in reads another person's " +
			"conversations.",
	},
	claims: []claim{
		test(gate, "TestRead", "what is stored of somebody is read for a reason, which is recorded "+
			"before it and shown to the person"),
		test(gate, "TestReadRefused", "what cannot be recorded is not read"),
		test(gate, "TestUserCommand", "accounts are made and reset without anybody who can sign in"),
	},
}, {
	Item: Item{
		Section: "164.312(a)(2)(iii)", Title: "Automatic logoff", Addressable: true,
		Operator: "Lock the screens of workstations as well.",
	},
	claims: []claim{
		field(stacks.Gate, "SESSION_IDLE", "a session ends after this time without use",
			within(policy.LongestIdle)),
		test(session, "TestIdle", "a session without use ends"),
		test(gate, "TestIdleStream", "an answer that is being read is no use, and is cut off"),
	},
}, {
	Item: Item{
		Section: "164.312(a)(2)(iv)", Title: "Encryption and decryption", Addressable: true,
		Operator: "Keep the key of the backups away from them: who has it reads all. The stack " +
			"writes its volumes in clear text.",
	},
	on: map[stacks.Target]string{
		stacks.Docker: "Encrypt the disks under them, with LUKS for example.",
		stacks.Kubernetes: "Take a storage class that encrypts them " +
			"(codexcontinue:volumes.NAME.class), and have the API server encrypt Secrets.",
	},
	claims: []claim{
		test("services/backup/archive", "TestSealed",
			"a backup is encrypted for the keys of the settings, always, and is read by no other"),
	},
}, {
	Item: Item{
		Section: "164.312(b)", Title: "Audit controls",
		Operator: "Read the records of `codexctl audit`. They are dropped after six years, or " +
			"codexcontinue:audit.retention where that is longer: export what is to be kept. Drop " +
			"them in a Redis that you run yourself.",
	},
	on: map[stacks.Target]string{
		stacks.Docker: "Collect and read the containers' logs, and a record of who uses the engine " +
			"(auditd, for example), which keeps none.",
		stacks.Kubernetes: "Collect and read the pods' logs and the API server's audit log.",
	},
	claims: []claim{
		field(stacks.Gate, "AUDIT", "who signs in, and what admins do, is recorded", one("true")),
		field(stacks.Backend, "AUDIT", "who reads, asks and deletes is recorded", one("true")),
		rule("safeguards", "keeps the records for six years at least"),
		rule("bounded-log", "keeps logs from filling the disk"),
		rule("debug", "logs no content"),
		test(endToEnd, "TestHealthcare", "what people write is in no log, metric, record or state, "+
			"and in no file but those of Redis"),
		test("services/internal/logging", "TestRequestIDIsOnEveryLine",
			"each request can be followed through all services"),
		test(gate, "TestAudit", "it is recorded who signs in and who does not, and what admins do"),
		test(api, "TestAudit", "it is recorded who asks, stops, deletes and exports, without what"),
		test(records, "TestAppendOnly", "no service can change or remove a record"),
		test(stack, "TestRedisRetention",
			"records are dropped when their retention is over, by no service"),
		test(gate, "TestAuditTampered", "a record that was changed or taken out is found"),
	},
}, {
	Item: Item{
		Section: "164.312(c)(1)", Title: "Integrity",
		Operator: "Set codexcontinue:backup (docs/backup.md), and try to restore.",
	},
	claims: []claim{
		rule("retained-volume", "keeps volumes when a stack is removed"),
		rule("single-writer", "lets one server at a time write to a volume"),
		rule("read-only-root", "lets no container change its own program"),
		field(stacks.Backend, "CONVERSATION_TTL", "conversations end after this time without use",
			within(policy.LongestKept)),
		test(api, "TestConversationEnds", "nothing is left of a conversation that has ended"),
		test(stack, "TestRedisForgets", "nor in the files of Redis, a day later"),
		test(api, "TestOutageLongerThanALease", "an answer goes on after Redis was away"),
		test(endToEnd, "TestLoad", "no acknowledged message is lost while services are killed"),
	},
}, {
	Item: Item{
		Section: "164.312(c)(2)", Title: "Mechanism to authenticate electronic protected " +
			"health information", Addressable: true,
		Operator: "Treat answers as drafts: the record of a patient is elsewhere.",
	},
	claims: []claim{
		test("services/backend/internal/store", "TestAppendTwice",
			"a piece of an answer that arrives twice is kept once"),
		test(api, "TestMessageKey", "a message that is sent twice is kept once"),
	},
}, {
	Item: Item{
		Section: "164.312(d)", Title: "Person or entity authentication",
		Operator: "With an OpenID provider, require a second factor there. Accounts of the stack's " +
			"own have none.",
	},
	claims: []claim{
		field(stacks.Gate, "SIGN_IN", "people prove who they are",
			one(gateenv.Accounts, gateenv.OIDC)),
		test(account, "TestCheck", "short and common passwords are refused"),
		test(gate, "TestGuessing", "guessing is slowed down, without locking anybody out"),
		test(gate, "TestAttacks", "forged cookies and cross-site requests are refused"),
		test(gate, "TestSpoofed", "an address that another container than the edge names is not believed"),
		test("services/gate/internal/oidc", "TestTokens",
			"forged, expired and replayed tokens of a provider are refused"),
	},
}, {
	Item: Item{
		Section: "164.312(e)(1)", Title: "Transmission security",
		Operator: "Replace the certificates inside every two years (`codexctl certificates rotate`); " +
			"`codexctl doctor` says when. Keep the settings file and its passphrase to few: every key " +
			"inside comes of a secret there.",
	},
	on: map[stacks.Target]string{
		stacks.Docker: "Close what docs/isolation.md leaves open: add its two lines to the machine's " +
			"firewall, without which the edge reaches programs of the machine, and what it sends " +
			"leaves the machine from 127.0.0.1, and its route, without which a request may leave " +
			"while the edge starts or stops.",
		stacks.Kubernetes: "Run a network plugin that enforces NetworkPolicies, and try that it does: " +
			"the isolation of the stack rests on it.",
	},
	claims: []claim{
		rule("edge-tls", "speaks TLS with whoever comes from a network"),
		rule("internal-tls", "speaks TLS between the services, and with Redis and Ollama"),
		test("services/internal/mtls", "TestCall",
			"each side shows a certificate of the stack's own authority, with the name expected"),
		test("services/internal/mtls", "TestPlainText", "plain text is refused"),
		test(stack, "TestInternalRedis", "Redis answers nobody without a certificate"),
		test("services/ollama", "TestFront", "Ollama answers ml alone"),
		rule("fenced", "keeps other services of the machine or cluster out"),
		rule("cloud-models", "asks no model elsewhere"),
		rule("isolation", "gives no service a way out but the egress proxy, which is there where the "+
			"settings name a destination"),
		test("infra/docker", "TestNoWayOut",
			"on an engine nobody else is answered from outside, and only what the edge sends leaves"),
		test("test/e2e", "TestKubernetesHealthcare",
			"on a cluster whose plugin enforces policies no pod reaches anybody outside"),
		test("infra/kubernetes", "TestCorefile",
			"on a cluster no question for a name outside gets beyond the stack's own resolver"),
		test("services/egress/internal/tunnel", "TestRefused",
			"the egress proxy connects to the destinations named alone"),
	},
}, {
	Item: Item{
		Section: "164.312(e)(2)(i)", Title: "Integrity controls", Addressable: true,
		Operator: "Nothing more than for 164.312(e)(1).",
	},
	claims: []claim{
		rule("edge-tls", "speaks TLS, which notices changed data"),
		rule("internal-tls", "speaks TLS inside, too"),
		test(stack, "TestEdgeCertificate", "the edge serves the certificate of the settings"),
	},
}, {
	Item: Item{
		Section: "164.312(e)(2)(ii)", Title: "Encryption", Addressable: true,
		Operator: "Install the authority's certificate, or use one that browsers know.",
	},
	claims: []claim{
		rule("edge-tls", "speaks TLS with whoever comes from a network"),
		rule("internal-tls", "speaks TLS between the services, and with Redis and Ollama"),
		test(endToEnd, "TestRotation", "all certificates are replaced while people chat"),
		test(stack, "TestEdgeInternal", "without a public name, the edge is its own authority"),
	},
}}
