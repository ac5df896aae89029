package failure

import (
	"regexp"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
)

// rule recognises a kind of failure by the words of the engine, the providers, BuildKit or Pulumi,
// which have no codes.
type rule struct {
	match *regexp.Regexp

	// what and todo may refer to the match's groups ($1), the service ($service) and the stack
	// ($stack).
	what, todo string
}

var rules = []rule{
	{
		regexp.MustCompile(`(?i)Bind for (?:[0-9.]+|\[?::\]?):(\d+) failed: port is already allocated|` +
			`listen tcp\S* \S*?:(\d+): bind: address already in use`),
		"the host port $1$2 is taken",
		"stop what holds it (`ss -ltnp 'sport = :$1$2'` or `docker ps` name it), or choose another " +
			"port in the stack's settings",
	},
	{
		regexp.MustCompile(`(?i)Cannot connect to the Docker daemon at (\S+?)[.;]? |` +
			`failed to connect to any docker daemon|Error pinging Docker server`),
		"the Docker engine went away",
		"start Docker and run the command again",
	},
	{
		regexp.MustCompile(`(?is)unable to (?:find or )?pull image ([^\s:]+(?:[:@][^\s:]+)?)|` +
			`pull access denied for ([^\s,]+)|([^\s"]+): not found.*failed to resolve|` +
			`failed to resolve (?:reference|source metadata for) "?([^\s":]+(?::[^\s":]+)?)`),
		"the image $1$2$3$4 cannot be pulled",
		"check the way to its registry with `docker pull $1$2$3$4`; without one, load it with " +
			"`docker load`, or make an equivalent with `make images`",
	},
	{
		regexp.MustCompile(`(?i)no space left on device`),
		"the engine's disk is full",
		"make room: `docker system df` shows what takes it, `docker builder prune` and `docker image " +
			"prune` free it",
	},
	{
		regexp.MustCompile(`(?i)could not select device driver|nvidia-container-cli|` +
			`unknown or invalid runtime name: nvidia`),
		"the engine has no GPU to give",
		"install the NVIDIA container toolkit (`nvidia-ctk runtime configure`), or take gpu out of " +
			"the stack's settings",
	},
	{
		regexp.MustCompile(`(?i)(failed to solve|executor failed running|` +
			`did not complete successfully|returned a non-zero code|unable to build image|` +
			`failed to build)`),
		"the image does not build",
		"the lines above name the failing step of $service's Dockerfile in services/; correct it and run " +
			"the command again",
	},
	{
		regexp.MustCompile(`(?i)(failed to be in healthy state|` +
			`container \S+ is (?:unhealthy|starting|exited with code \d+) after|is unhealthy)`),
		"the container did not become healthy",
		"",
	},
	{
		regexp.MustCompile(`(?i)container exited immediately|OCI runtime|exited with code`),
		"the container does not start",
		"",
	},

	// The Kubernetes provider wraps each of these in several sentences.
	{
		regexp.MustCompile(`(?s)[Aa]pply failed with \d+ conflicts?: conflicts? with "([^"]+)".*?` +
			`(\.[\w.\[\]="{}:-]+)`),
		"$1 has changed $2 of it by other means",
		"undo that change, or let what the stack says win: add the annotation " +
			"pulumi.com/patchForce=\"true\" by `kubectl annotate`, and run the command again",
	},
	{
		regexp.MustCompile(`(?s)([a-z.]+ "[^"]+") already exists`),
		"$1 is there already, and not of this stack's state",
		"remove it, or name the backend that it was made with in PULUMI_BACKEND_URL",
	},
	{
		regexp.MustCompile(`(?s)configured Kubernetes cluster is unreachable|` +
			`unable to load Kubernetes client configuration|` +
			`unable to load schema information from the API server`),
		"the cluster went away",
		"check the way to it (`codexctl doctor $stack`) and run the command again",
	},
	{
		regexp.MustCompile(`(?i)(?:could not|failed to) (?:find|load|download|install)` +
			`.*plugin.*kubernetes|no resource plugin 'pulumi-resource-kubernetes'`),
		"Pulumi's kubernetes provider can neither be found nor downloaded",
		"install it where there is a network with `pulumi plugin install resource kubernetes`, or " +
			"put pulumi-resource-kubernetes on PATH",
	},
	{
		regexp.MustCompile(`(?i)(?:could not|failed to) (?:find|load|download|install).*plugin|` +
			`no resource plugin`),
		"Pulumi's docker provider can neither be found nor downloaded",
		"install it where there is a network with `pulumi plugin install resource docker " +
			pulumicli.DockerProvider + "`, or put pulumi-resource-docker on PATH",
	},
}
