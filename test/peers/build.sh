#!/usr/bin/env bash
# Builds the programs that tests run against, from pinned Go modules, into the cache's bin folder:
#
#   test/peers/build.sh [pulumi|ollama|caddy|coredns|pebble|docker-compose|kubernetes-cluster|kubernetes-provider|registry|versitygw ...]
#   test/peers/build.sh openai-js
#
# Each is built again only when its module or the Go toolchain changed. Ollama is one static program
# with the processor backend; building it needs a C++ compiler, nlohmann-json3-dev and libstb-dev.
# The programs of the cluster, which test/cluster/cluster.sh runs, lie in a folder of their own,
# cluster/bin.
#
# openai-js is OpenAI's client for JavaScript, and Qwen Code, a coding agent. npm installs them, as
# test/openai/javascript pins them, into a folder of its own, openai-js, which CODEXCONTINUE_OPENAI_JS
# is to name.
#
# CODEXCONTINUE_TEST_CACHE names the cache (default:
# ${XDG_CACHE_HOME:-~/.cache}/codexcontinue-test).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${CODEXCONTINUE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/codexcontinue-test}
bin=$cache/bin
mkdir -p "$bin"

say() { printf '%s\n' "peers: $*" >&2; }
fail() { say "$*"; exit 1; }

command -v go >/dev/null || fail "no go on PATH: install Go 1.26"

# up_to_date NAME STAMP succeeds if the program was built from these inputs.
up_to_date() { [[ -x $bin/$1 && -f $bin/.$1.stamp && $(<"$bin/.$1.stamp") == "$2" ]]; }

# stamp MODULE FLAGS... prints a digest of everything that the program is made of.
stamp() {
	local module=$1
	shift
	{ cat "$root/$module/go.mod" "$root/$module/go.sum"; go version; printf '%s\n' "$@"; } | sha256sum | cut -d' ' -f1
}

# build NAME MODULE PACKAGE [FLAGS...] builds a program from the module in that folder.
build() {
	local name=$1 module=$2 package=$3 id start=$SECONDS
	shift 3
	id=$(stamp "$module" "$package" "$@" "${CGO_CFLAGS:-}")
	if up_to_date "$name" "$id"; then
		say "$name is up to date"
		return
	fi
	say "$name: building (log: $cache/$name.log)"
	# It is built beside its final place and renamed, so that nobody sees half a program.
	if ! (cd "$root/$module" && go build -mod=readonly -buildvcs=false -trimpath \
		-o "$bin/.$name.part" "$@" "$package") >"$cache/$name.log" 2>&1; then
		tail -n 20 "$cache/$name.log" >&2
		fail "$name: the build failed; the whole log is $cache/$name.log"
	fi
	mv "$bin/.$name.part" "$bin/$name"
	printf '%s\n' "$id" >"$bin/.$name.stamp"
	say "$name: built in $((SECONDS - start)) s"
}

# quick are compiler flags for programs whose speed does not matter to tests. They save two fifths
# of the processor time of the two largest builds.
quick='-gcflags=all=-N -l -dwarf=false'

version() { (cd "$root/$1" && go list -mod=readonly -m -f '{{.Version}}' "$2"); }

build_ollama() {
	local v header malgo include=$cache/include
	command -v c++ >/dev/null || fail "ollama: no C++ compiler: apt-get install g++ libc6-dev"
	for header in /usr/include/nlohmann/json.hpp /usr/include/stb/stb_image.h; do
		[[ -f $header ]] || fail "ollama: $header is missing: apt-get install nlohmann-json3-dev libstb-dev"
	done
	mkdir -p "$include/miniaudio"
	(cd "$root/test/peers/ollama" && go mod download github.com/gen2brain/malgo)
	malgo=$(cd "$root/test/peers/ollama" && go list -mod=readonly -m -f '{{.Dir}}' github.com/gen2brain/malgo)
	install -m 644 "$malgo/miniaudio.h" "$include/miniaudio/"
	v=$(version test/peers/ollama github.com/ollama/ollama)
	CGO_ENABLED=1 CGO_CFLAGS="-O3 -I/usr/include/stb -I$include" CGO_CXXFLAGS="-O3 -I/usr/include/stb -I$include" \
		build ollama test/peers/ollama github.com/ollama/ollama \
		-ldflags "-s -w -X github.com/ollama/ollama/version.Version=${v#v} -linkmode external -extldflags -static"
}

build_cluster() {
	local out=$cache/cluster/bin part=$cache/cluster/bin.part id k8s flags package start=$SECONDS
	id=$({ cat "$root"/test/cluster/{kube,dns,control,policies,pause}/*.go; stamp test/cluster "$quick"; } |
		sha256sum | cut -d' ' -f1)
	if [[ -f $out/.stamp && $(<"$out/.stamp") == "$id" ]]; then
		say "kubernetes-cluster is up to date"
		return
	fi
	say "kubernetes-cluster: building (log: $cache/kubernetes-cluster.log)"
	# Without these the servers have the version v0.0.0-master, which some clients refuse.
	k8s=$(version test/cluster k8s.io/kubernetes)
	flags="-s -w"
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		flags+=" -X $package.gitVersion=$k8s -X $package.gitMajor=1"
		flags+=" -X $package.gitMinor=$(cut -d. -f2 <<<"$k8s") -X $package.gitTreeState=clean"
		flags+=" -X $package.gitCommit=module"
	done
	rm -rf "$part"
	mkdir -p "$part"
	if ! (cd "$root/test/cluster" && go build -mod=readonly -buildvcs=false -trimpath "$quick" \
		-ldflags "$flags" -o "$part/" \
		./kube ./dns ./control ./policies ./pause go.etcd.io/etcd/server/v3) >"$cache/kubernetes-cluster.log" 2>&1; then
		tail -n 20 "$cache/kubernetes-cluster.log" >&2
		fail "kubernetes-cluster: the build failed; the whole log is $cache/kubernetes-cluster.log"
	fi
	mv "$part/server" "$part/etcd"
	printf '%s\n' "$id" >"$part/.stamp"
	rm -rf "$out"
	mv "$part" "$out"
	say "kubernetes-cluster: built in $((SECONDS - start)) s"
}

# build_provider builds Pulumi's provider for Kubernetes, with the two files that it embeds from
# their places in its module.
build_provider() {
	local module=test/peers/kubernetes path=github.com/pulumi/pulumi-kubernetes/provider/v4
	local folder overlay=$cache/kubernetes-provider.json name files=()
	(cd "$root/$module" && go mod download "$path")
	folder=$(cd "$root/$module" && go list -mod=readonly -m -f '{{.Dir}}' "$path")/cmd/pulumi-resource-kubernetes
	for name in schema terraform-mapping; do
		[[ -f $folder/$name.json ]] || fail "kubernetes-provider: $folder/$name.json is missing"
		files+=("\"$root/$module/$name.json\": \"$folder/$name.json\"")
	done
	printf '{"Replace": {%s, %s}}\n' "${files[@]}" >"$overlay"
	build pulumi-resource-kubernetes "$module" . -overlay "$overlay" "$quick" \
		-ldflags "-s -w -X $path/pkg/version.Version=$kubernetes_provider"
}

# kubernetes_provider is the release of the module's commit, which its version does not tell.
kubernetes_provider=4.25.0

# install_openai_js runs npm only where the lock file has changed.
install_openai_js() {
	local out=$cache/openai-js lock=$root/test/openai/javascript/package-lock.json
	command -v npm >/dev/null || fail "openai-js: no npm on PATH: install Node.js"
	if cmp -s "$lock" "$out/installed-lock.json"; then
		say "openai-js is up to date"
		return
	fi
	mkdir -p "$out"
	cp "$root"/test/openai/javascript/package*.json "$out/"
	if ! npm ci --prefix "$out" --ignore-scripts --omit=optional --no-audit --no-fund >"$cache/openai-js.log" 2>&1; then
		tail -n 20 "$cache/openai-js.log" >&2
		fail "openai-js: npm failed; the whole log is $cache/openai-js.log"
	fi
	cp "$lock" "$out/installed-lock.json"
}

build_one() {
	export CGO_ENABLED=0
	case $1 in
	pulumi)
		# The Automation API refuses a CLI without a version.
		build pulumi tools/pulumi github.com/pulumi/pulumi/pkg/v3/cmd/pulumi \
			-ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$(
				version tools/pulumi github.com/pulumi/pulumi/pkg/v3
			)"
		;;
	ollama) build_ollama ;;
	caddy)
		build caddy test/peers/caddy github.com/caddyserver/caddy/v2/cmd/caddy \
			-ldflags "-s -w -X github.com/caddyserver/caddy/v2.CustomVersion=$(
				version test/peers/caddy github.com/caddyserver/caddy/v2
			)"
		;;
	coredns) build coredns test/peers/coredns . "$quick" -ldflags "-s -w" ;;
	pebble)
		build pebble test/peers/pebble github.com/letsencrypt/pebble/v2/cmd/pebble \
			-ldflags "-s -w -X main.version=$(version test/peers/pebble github.com/letsencrypt/pebble/v2)"
		;;
	docker-compose)
		build docker-compose tools/compose github.com/docker/compose/v2/cmd \
			-ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$(
				version tools/compose github.com/docker/compose/v2
			)"
		;;
	openai-js) install_openai_js ;;
	kubernetes-cluster) build_cluster ;;
	kubernetes-provider) build_provider ;;
	registry)
		build registry test/peers/registry github.com/distribution/distribution/v3/cmd/registry \
			-ldflags "-s -w -X github.com/distribution/distribution/v3/version.version=$(
				version test/peers/registry github.com/distribution/distribution/v3
			)"
		;;
	versitygw)
		build versitygw test/peers/versitygw github.com/versity/versitygw/cmd/versitygw "$quick" \
			-ldflags "-s -w -X main.Version=$(
				version test/peers/versitygw github.com/versity/versitygw
			)"
		;;
	*) fail "$1: unknown; known are ${all[*]} openai-js" ;;
	esac
}

all=(pulumi ollama caddy coredns pebble docker-compose kubernetes-cluster kubernetes-provider registry versitygw)
[[ $# -gt 0 ]] || set -- "${all[@]}"
for name; do build_one "$name"; done
printf '%s\n' "$bin"
