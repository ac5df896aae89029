package stacks

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// redisACL says what each service may do in the stack's own Redis, in the words of ACL SETUSER: the
// keys that it owns, and the commands that it sends and that its scripts run. Redis holds scripts
// to the same. A service signs in as the user of its name, and Redis has the users of the services
// that a stack has.
//
// What a service may do to some keys alone is a selector, in parentheses. The records of the audit
// can be added to, and neither changed nor removed, by whoever has a service's password.
//
// Nobody may do what reaches beyond one's own keys or changes the server: KEYS, SCAN, FLUSHALL,
// CONFIG, ACL, DEBUG, SHUTDOWN. Nobody has channels. The gate may have the append-only file written
// anew, which changes no data.
var redisACL = map[string][]string{
	// The gate signs people in. It keeps accounts, sessions and limits of attempts.
	Gate: {
		"~gate:*",
		// It shows what people have used, and drops what somebody has used who is gone.
		"~usage:*",
		// It signs who asks; the public keys by which others verify that.
		"~identity:gate:*",

		"+eval", "+evalsha", "+multi", "+exec",
		"+get", "+getdel", "+getex", "+set", "+incrby",
		"+hdel", "+hget", "+hgetall", "+hset",
		"+lpush", "+lrange", "+ltrim",
		"+sadd", "+scard", "+sismember", "+smembers", "+srem",
		"+zadd", "+zrange", "+zrem", "+zremrangebyscore", "+zscore",
		"+del", "+exists", "+expire", "+pexpire", "+pttl",
		// What a person has had erased is in the append-only file until that is written anew.
		"+bgrewriteaof",

		// It records who did what, and reads that for codexctl audit.
		"(~{audit}:* +eval +evalsha +rpush +lindex +lrange)",
	},

	// The backend keeps conversations and answers.
	Backend: {
		"~conversation:*", "~generation:*", "~owner:*", "~running",
		// It signs for the jobs that it takes over, and verifies who asks.
		"~identity:backend:*", "%R~identity:*",

		"+eval", "+evalsha",
		"+get", "+mget", "+set", "+append", "+getrange", "+strlen",
		"+hget", "+hmget", "+hset", "+hsetnx", "+hdel", "+hexists", "+hincrby", "+hkeys",
		"+lindex", "+llen", "+lmove", "+lrange", "+lset", "+rpush", "+rpop",
		"+zadd", "+zcard", "+zrange", "+zrem", "+zremrangebyscore", "+zrevrangebyscore", "+zscore",
		"+xadd", "+xread", "+xrevrange", "+xtrim",
		"+del", "+unlink", "+exists", "+pexpire", "+persist",
		"+ping", "+time",
		"+info", // by which it tells a replica, a node of a Cluster and an old version

		// It records who did what.
		"(~{audit}:* +eval +evalsha +rpush +lindex)",
	},

	// Backup copies all that Redis holds, as a replica does. It changes nothing, and reads but the
	// records of the audit.
	Backup: {
		// It signs who it is, for knowledge and ml.
		"~identity:backup:*",

		"+eval", "+evalsha", "+set",
		"+sync", "+replconf",

		// It keeps beside the backups what was erased.
		"(%R~{audit}:* +lrange)",
	},

	// ml keeps the queue, and counts what people use, by a script for each.
	ML: {
		"~{queue}:*", "~usage:*",
		// It verifies who asks.
		"%R~identity:*",

		"+eval", "+evalsha",
		"+get", "+mget",
		"+lrange", "+rpush",
		"+sadd", "+scard", "+sismember", "+smembers", "+srem",
		"+hdel", "+hget", "+hgetall", "+hincrby", "+hkeys", "+hset",
		"+zadd", "+zcard", "+zrangebyscore", "+zrem", "+zremrangebyscore", "+zscore",
		"+del", "+pexpire", "+time",
	},

	// knowledge keeps what it has on its volume.
	Knowledge: {
		// It signs what it asks ml, and verifies who asks.
		"~identity:knowledge:*", "%R~identity:*",

		"+eval", "+evalsha",
		"+get", "+set",
		"+ping",

		// It records who did what.
		"(~{audit}:* +eval +evalsha +rpush +lindex)",
	},
}

// RedisACL returns what the service may do in the stack's own Redis, as the words that follow the
// user's name and password in Redis's configuration. It is empty for a service that has no user.
func RedisACL(service string) string { return strings.Join(redisACL[service], " ") }

// redisUser is what a service's password is derived for.
func redisUser(service string) string { return "redis user " + service }

// formerPassword is how long Redis takes a password that was replaced. An `up` that replaces the
// containers which know it ends within that time, with image builds and the drain of each, and one
// that failed half-way can be repaired.
const formerPassword = time.Hour

// requirePassword makes Redis ask for passwords, which come of the one in the config.
func (s *Stack) requirePassword() {
	s.Secrets = append(s.Secrets, Secret{Name: RedisPassword, ConfigKey: RedisPasswordKey})
}

// hasPassword reports whether Redis asks for passwords.
func (s *Stack) hasPassword() bool {
	return slices.ContainsFunc(s.Secrets, func(x Secret) bool { return x.Name == RedisPassword })
}

// nameRedisUsers tells the services that use Redis, those of an overlay included, how to sign in. In the
// stack's own each is a user with a password of its own. In another they are all the user of its
// URL, with the password of the config.
func (s *Stack) nameRedisUsers() {
	own := s.Service(Redis) != nil
	for i := range s.Services {
		svc := &s.Services[i]
		c, ok := svc.Contract.(contract.RedisUser)
		if !ok {
			continue
		}

		vars := c.RedisVariables()
		password := File{Path: path.Join(secretsDir, RedisPassword), Secret: RedisPassword}
		if own {
			vars.RedisURL = url("redis", svc.Name+"@"+Redis, redisPort) + "/0"
			password.Content = SecretFor(redisUser(svc.Name))
		}

		if s.hasPassword() {
			svc.Files = append(svc.Files, password)
			vars.RedisPasswordFile = password.Path
		}
	}
}

// finishRedis gives the stack's own Redis its users, and bounds its memory to three quarters of the
// container's.
//
// Where it asks for passwords it gets their hashes alone, so none can be read from its container,
// and a password that was replaced is taken for a while (formerPassword). The default user is off
// then. It keeps its rights for the start script, which lets it in for as long after an update from
// a version in which all signed in as that user. The script also drops old records of the audit, by
// a user that no service is.
func (s *Stack) finishRedis() error {
	r := s.Service(Redis)
	if r == nil {
		return nil
	}

	password := func(string) string { return "nopass" }
	if s.hasPassword() {
		password = func(service string) string { return "#" + SecretHashFor(redisUser(service)) }
	}

	users, err := s.aclOf(password)
	if s.hasPassword() {
		auth := path.Join(secretsDir, "redis-auth.conf")
		r.Files = append(r.Files,
			File{
				Path:    auth,
				Content: "user default reset ~* &* +@all\n" + users,
				Secret:  RedisPassword,
			},
			File{Path: redisStart, Content: redisStartScript})
		r.Command = []string{
			"sh", redisStart, auth, "/data/passwords",
			strconv.Itoa(int(formerPassword / time.Second)), redisConfig,
		}
		if s.AuditRetention != 0 {
			seconds := int64(s.AuditRetention / time.Second)
			r.Command = append(r.Command, strconv.FormatInt(seconds, 10))
		}
	} else if users != "" {
		r.Files = append(r.Files, File{Path: redisUsers, Content: users})
		r.Command = append(r.Command, "--include", redisUsers)
	}

	for i := range r.Files {
		r.Files[i].Content = strings.ReplaceAll(r.Files[i].Content, "${maxmemory}",
			fmt.Sprint(MaxMemory(r.Resources.Memory)))
	}

	return err
}

// MaxMemory returns how many bytes Redis may use for data, of so much memory: it takes nothing new
// beyond. The rest is for what else it needs, such as copies while it writes its file anew.
func MaxMemory(memory Bytes) int64 { return int64(memory) / 4 * 3 }

// aclOf returns the configuration of the users of the stack's services.
func (s *Stack) aclOf(password func(service string) string) (string, error) {
	var users strings.Builder
	var errs []error
	for _, svc := range s.Services {
		if _, ok := svc.Contract.(contract.RedisUser); !ok {
			continue
		}

		acl := RedisACL(svc.Name)
		if acl == "" {
			errs = append(errs, fmt.Errorf("services.%s: uses Redis, and nobody says what it may do "+
				"there: add its rules to redisACL in stacks/redis.go", svc.Name))
		}
		fmt.Fprintf(&users, "user %s reset on %s %s\n", svc.Name, password(svc.Name), acl)
	}

	return users.String(), errors.Join(errs...)
}
