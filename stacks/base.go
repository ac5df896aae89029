package stacks

import (
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

// References of the upstream images, pinned. test/images makes equivalents
// under the same references.
const (
	RedisImage   = "redis:8.2.1-bookworm"
	OllamaImage  = "ollama/ollama:0.17.4"
	CaddyImage   = "caddy:2.11.9"
	CoreDNSImage = "coredns/coredns:1.14.7"
	GoImage      = "golang:1.26.8-bookworm"
)

// Ports inside the containers; the services' are those of the compose stack that this replaces.
const (
	edgePort     = 8080
	frontendPort = 8501
	backendPort  = 8000
	mlPort       = 5000
	redisPort    = 6379
	ollamaPort   = 11434
)

// Time bounds that depend on each other: an answer ends before the drain does, and the drain before
// the kill. A container that is replaced stays only as long as the answers that it is writing,
// mostly seconds. Its successor takes the new ones.
const (
	generationTimeout = 10 * time.Minute
	drainTimeout      = generationTimeout + 10*time.Second
	stopGrace         = drainTimeout + 20*time.Second
)

// defaultParallel is how many answers a replica of Ollama writes at once unless the stack says
// otherwise (Stack.parallel).
const defaultParallel = 2

// parallelVariable tells Ollama how many answers to write at once.
const parallelVariable = "OLLAMA_NUM_PARALLEL"

// loopback is the address that ports are published on unless the stack says otherwise.
const loopback = "127.0.0.1"

// serviceUser is the user of the project's own containers: "nobody" of distroless images,
// unknown to every host.
const serviceUser = 65532

// modelfilesDir is where ml finds the Modelfiles.
const modelfilesDir = "/models/ollama"

// secretsDir is where containers find secrets as files.
const secretsDir = "/run/secrets"

// redisCA is where backend and ml find the authority of an external Redis' certificate.
const redisCA = "/etc/redis-ca/ca.pem"

//go:embed redis/redis.conf
var redisConf string

//go:embed redis/start.sh
var redisStartScript string

// Where Redis finds its configuration and, where it asks for passwords, what starts it; else its
// users.
const (
	redisConfig = "/etc/redis/redis.conf"
	redisStart  = "/etc/redis/start.sh"
	redisUsers  = "/etc/redis/users.conf"
)

// base is the single source of truth: what every stack is before its overlay.
func base(name string) Stack {
	services := []Service{edge()}
	for _, service := range ownServices {
		services = append(services, service(name))
	}

	return Stack{
		Name:     name,
		Domain:   "codexcontinue",
		Networks: []Network{{Name: MainNetwork}},
		Volumes: []Volume{
			// Two servers that append to one file lose what either has acknowledged.
			{Name: RedisData, Size: 5 * GiB, SingleWriter: true},
			// A model can be downloaded and made again.
			{Name: OllamaData, Size: 50 * GiB, PerReplica: true}},
		Model:    Model{Name: "codexcontinue", Modelfile: "modelfiles/codexcontinue/Modelfile"},
		Services: append(services, redis(), ollama()),

		Platforms:      []string{DefaultPlatform},
		AuditRetention: 400 * day,
	}
}

// ownServices are those of this repository, in the order in which people see them. A new one is a
// function in a file of its own, and a line here.
var ownServices = []func(environment string) Service{
	gate,
	frontend,
	backend,
	ml,
}

func edge() Service {
	return Service{
		Name:  Edge,
		Image: Image{Ref: CaddyImage},
		Command: []string{
			"caddy", "run", "--config", caddyConfig, "--adapter", "caddyfile",
		},
		Ports:    []Port{{Name: "http", Container: edgePort, Host: edgePort, Address: loopback}},
		Networks: []string{MainNetwork},
		// Below /tmp, because a tmpfs takes the mode of the image's directory under it, and only
		// /tmp's lets everyone write.
		Env: map[string]string{
			"XDG_CONFIG_HOME": "/tmp/config",
			"XDG_DATA_HOME":   "/tmp/data",
			// Below the limit, so that bodies which many send at once are collected in time.
			"GOMEMLIMIT": "200MiB",
		},
		Mounts:    []Mount{{Kind: MountTmpfs, Target: "/tmp", Size: 16 * MiB}},
		Files:     []File{{Path: caddyConfig, Content: caddyfile}},
		DependsOn: []string{Gate},
		Calls:     []string{Gate},
		// The upstream image and its test equivalent have wget.
		Health: health("/edge/health", "/edge/health", "wget", "-q", "-O", "/dev/null",
			fmt.Sprintf("http://127.0.0.1:%d/edge/health", edgePort)),
		Replicas:  1,
		Resources: Resources{CPU: 1000, Memory: 256 * MiB, PIDs: 128},
		Security: Security{UID: serviceUser, GID: serviceUser, KeepCapabilities: map[string]string{
			"NET_BIND_SERVICE": "the upstream binary carries it as a file capability, and the " +
				"kernel refuses to run such a file when the capability is not in the bounding " +
				"set; no-new-privileges keeps the process itself from having it",
		}},
		// A replaced edge has to give its published port away before the next one can start. So it
		// does not wait for event streams: browsers connect again and go on where they were. Longer
		// than grace_period of the Caddyfile.
		StopGrace:    15 * time.Second,
		Log:          logs(),
		StartTimeout: 2 * time.Minute,
	}
}

// common returns the variables that the services share, which overlays change by edit.
func common(environment string, port int) contract.Common {
	return contract.Common{
		Environment:  environment,
		LogLevel:     "info",
		ListenAddr:   fmt.Sprintf(":%d", port),
		DrainTimeout: drainTimeout,
	}
}

// own returns a service of this repository in its production image.
func own(name string, port int, livePath string) Service {
	return Service{
		Name: name,
		Image: Image{Build: &Build{
			Repository: Project + "/" + name, Context: ".", Target: "production",
			Dockerfile: "services/" + name + ".Dockerfile",
			Args:       map[string]string{"GO_IMAGE": GoImage, "SERVICE": name},
		}},
		Ports:     []Port{{Name: "http", Container: port, Address: loopback}},
		Networks:  []string{MainNetwork},
		Health:    health(livePath, "/ready", "/"+name, "healthcheck"),
		Replicas:  1,
		Resources: Resources{CPU: 1000, Memory: 256 * MiB, PIDs: 256},
		Security:  Security{UID: serviceUser, GID: serviceUser},
		StopGrace: stopGrace, Log: logs(), StartTimeout: 2 * time.Minute,
	}
}

func frontend(environment string) Service {
	s := own(Frontend, frontendPort, "/healthz")
	s.Contract = &frontendenv.Config{
		Common:     common(environment, frontendPort),
		BackendURL: url("http", Backend, backendPort),
		DomainFile: domainFile,
	}

	s.DependsOn, s.Calls = []string{Backend}, []string{Backend}
	return s
}

func backend(environment string) Service {
	s := own(Backend, backendPort, "/health")
	s.Contract = &backendenv.Config{
		Common:            common(environment, backendPort),
		MLServiceURL:      url("http", ML, mlPort),
		DefaultModel:      "codexcontinue",
		ConversationTTL:   0,
		GenerationTimeout: generationTimeout,
	}

	s.DataFormat = backendenv.DataFormat
	s.DependsOn, s.Calls = []string{Redis, ML}, []string{Redis, ML}
	// An engine has one check for both probes. A backend that does not reach Redis takes no
	// request, so its predecessor has to stay.
	s.Health.Command = []string{
		"/" + Backend, "healthcheck", url("http", "127.0.0.1", backendPort) + "/ready",
	}
	return s
}

func ml(environment string) Service {
	s := own(ML, mlPort, "/health")
	s.Contract = &mlenv.Config{
		Common:            common(environment, mlPort),
		OllamaURL:         url("http", Ollama, ollamaPort),
		DefaultModel:      "codexcontinue",
		ApplyModel:        true,
		MaxParallel:       defaultParallel,
		MaxQueue:          32,
		GenerationTimeout: generationTimeout,
		KeepAlive:         30 * time.Minute,
	}

	s.Mounts = []Mount{{Kind: MountModel, Target: modelfilesDir, ReadOnly: true}}

	s.DataFormat = mlenv.DataFormat
	s.DependsOn, s.Calls = []string{Ollama, Redis}, []string{Ollama, Redis}
	return s
}

func redis() Service {
	s := Service{
		Name:     Redis,
		Image:    Image{Ref: RedisImage},
		Command:  []string{"redis-server", redisConfig},
		Ports:    []Port{{Name: "redis", Container: redisPort, Address: loopback}},
		Networks: []string{MainNetwork},
		Mounts:   []Mount{{Kind: MountVolume, Source: RedisData, Target: "/data"}},
		Files:    []File{{Path: redisConfig, Content: redisConf}},
		// The user of redis.conf can do nothing else, and any password lets it in: the check needs
		// no secret. -e makes an error the exit code, as while Redis still loads its data.
		Health: health("", "", "redis-cli", "-e", "--no-auth-warning", "--user", "health",
			"--pass", "any", "exists", "health"),
		Replicas:  1,
		Resources: Resources{CPU: 1000, Memory: 512 * MiB, PIDs: 64},
		Security:  Security{UID: 999, GID: 999},
		StopGrace: 30 * time.Second,
		Log:       logs(),
		// With RDB_VERSION in src/rdb.h of Redis.
		DataFormat: 1,
	}

	// Redis is healthy when it has loaded its data: minutes from a slow disk. One that is killed
	// meanwhile begins again.
	s.Health.StartPeriod, s.StartTimeout = 15*time.Minute, 15*time.Minute
	return s
}

func ollama() Service {
	return Service{
		Name: Ollama,
		// The upstream image with a home for a user other than root, and a
		// first process that drains.
		Image: Image{Build: &Build{
			Repository: Project + "/" + Ollama,
			Context:    ".",
			Dockerfile: "services/ollama/Dockerfile",
			Target:     "production",
			Args:       map[string]string{"OLLAMA_IMAGE": OllamaImage, "GO_IMAGE": GoImage},
		}},
		Env: map[string]string{
			"HOME":          "/ollama",
			"OLLAMA_HOST":   fmt.Sprintf("0.0.0.0:%d", ollamaPort),
			"OLLAMA_MODELS": "/ollama/models",
			// ml keeps the previous version of the model for a rollback.
			"OLLAMA_NOPRUNE": "1",
			parallelVariable: strconv.Itoa(defaultParallel),
		},
		Ports:    []Port{{Name: "ollama", Container: ollamaPort, Address: loopback}},
		Networks: []string{MainNetwork},
		Mounts: []Mount{{Kind: MountVolume, Source: OllamaData, Target: "/ollama"},
			{Kind: MountTmpfs, Target: "/tmp", Size: 256 * MiB, Exec: true}},
		Outside: []Outside{{
			Port:   443,
			Reason: "downloads base models from their registry, whose addresses change",
		}},
		Health:       health("/", "/api/version", "ollama", "list"),
		Replicas:     1,
		Resources:    Resources{CPU: 4000, Memory: 8 * GiB, PIDs: 1024},
		Security:     Security{UID: 10001, GID: 10001},
		StopGrace:    stopGrace,
		Log:          logs(),
		StartTimeout: 5 * time.Minute,
		DataFormat:   1,
	}
}

// health returns a check every three seconds. The first comes after one interval, which every `up`
// waits for; each costs the machine some 30 ms of one core.
func health(livePath, readyPath string, command ...string) Health {
	return Health{
		Command:     command,
		LivePath:    livePath,
		ReadyPath:   readyPath,
		Interval:    3 * time.Second,
		Timeout:     4 * time.Second,
		StartPeriod: 30 * time.Second,
		Retries:     5,
	}
}

func logs() Log { return Log{MaxSize: 10 * MiB, MaxFiles: 3} }

func url(scheme, host string, port int) string {
	return fmt.Sprintf("%s://%s:%d", scheme, host, port)
}
