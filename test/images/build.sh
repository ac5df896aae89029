#!/usr/bin/env bash
# Makes local equivalents of the upstream images that the stack pins, under the same references, from OS packages and
# Go modules, for machines that reach no image registry:
#
#   test/images/build.sh [redis|caddy|coredns|ollama|golang|all|slow]
#
#   redis    Debian's redis-server, uid and paths as upstream
#   caddy    built from its Go module, with the file capability and the wget that upstream has
#   coredns  built from its Go module with the plugins that the stack's Corefile names, with the file capability that
#            upstream has
#   ollama   built from its Go module, processor backend only, with the model `tiny` of test/tinymodel in /ollama/models
#   golang   this machine's Go toolchain on Debian
#   slow     no upstream image and not among all: that of ollama with test/slowmodel in front of it,
#            whose answers take as long as a test wants, under the reference of ollama with -slow
#            behind it
#
# An image is made again only when its inputs changed. A reference that holds an image which this script did not make
# is left alone: pulled images win. Needs docker, and root or sudo for debootstrap.
#
# CODEXCONTINUE_TEST_CACHE names the cache (default: ${XDG_CACHE_HOME:-~/.cache}/codexcontinue-test).
set -euo pipefail

# The references are those of stacks/base.go.
redis_ref=redis:8.2.1-bookworm
caddy_ref=caddy:2.11.9
coredns_ref=coredns/coredns:1.14.7
ollama_ref=ollama/ollama:0.17.4
golang_ref=golang:1.26.8-bookworm

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${CODEXCONTINUE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/codexcontinue-test}
label=dev.codexcontinue.test-image
suite=bookworm
mirror=${CODEXCONTINUE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
# One root serves three images: what an image has too much of costs nothing, a second debootstrap costs half a minute.
packages=ca-certificates,git,libcap2-bin,redis-server,tzdata,wget

say() { printf '%s\n' "images: $*" >&2; }
fail() { say "$*"; exit 1; }
as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

command -v docker >/dev/null || fail "no docker on PATH: apt-get install docker.io"
docker version >/dev/null 2>&1 || fail "the Docker engine does not answer: start it, or set DOCKER_HOST"
mkdir -p "$cache"

work=$(mktemp -d "$cache/work.XXXXXX")
helper=
cleanup() {
	[[ -z $helper ]] || docker rm -f "$helper" >/dev/null 2>&1 || true
	as_root rm -rf "$work"
}
trap cleanup EXIT

digest() { sha256sum | cut -c1-16; }

# settled REF ID: nothing is to be done for this reference.
settled() {
	local have
	have=$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null) || return 1
	if [[ -z $have || $have == "<no value>" ]]; then
		say "$1 is an image of another origin: left alone"
	elif [[ $have == "$2" ]]; then
		say "$1 is up to date"
	else
		return 1
	fi
}

# assemble REF ID CONTEXT: builds CONTEXT/Dockerfile. The classic builder needs no plugin of the docker command.
assemble() {
	if ! DOCKER_BUILDKIT=0 docker build -q --label "$label=$2" -t "$1" "$3" >"$work/build.log" 2>&1; then
		cat "$work/build.log" >&2
		fail "$1: the build failed"
	fi
	say "$1: made in $((SECONDS - started)) s"
}

# debian prints the reference of the shared Debian root, after making it where it is missing.
debian() {
	local ref
	ref=codexcontinue-test/debian:$suite-$(printf '%s\n' "$suite" "$packages" 2 | digest)
	if ! docker image inspect "$ref" >/dev/null 2>&1; then
		command -v debootstrap >/dev/null || [[ -x /usr/sbin/debootstrap ]] ||
			fail "no debootstrap: apt-get install debootstrap"
		say "debian root: debootstrap $suite (log: $cache/debootstrap.log)"
		as_root env "PATH=$PATH:/usr/sbin:/sbin" debootstrap --variant=minbase "--include=$packages" \
			"$suite" "$work/debian" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
			tail -n 20 "$cache/debootstrap.log" >&2
			fail "debootstrap failed; is $mirror reachable?"
		}
		as_root rm -rf "$work"/debian/var/{cache/apt,lib/apt/lists,log} "$work/debian/etc/redis"
		as_root install -d "$work"/debian/var/{log,cache/apt/archives/partial,lib/apt/lists/partial}
		as_root tar -C "$work/debian" --exclude=./dev/* -cf - . |
			docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$ref" >/dev/null
		as_root rm -rf "$work/debian"
	fi
	printf '%s\n' "$ref"
}

# inputs FILE...: what an image is made of: this script, the root, and the files.
inputs() { { cat "${BASH_SOURCE[0]}"; printf '%s\n' "$suite" "$packages"; cat "$@"; } | digest; }

# binary NAME prints the path of a program that test/peers builds.
binary() { printf '%s/%s\n' "$(CODEXCONTINUE_TEST_CACHE=$cache "$root/test/peers/build.sh" "$1")" "$1"; }

make_redis() {
	local id base
	id=$(inputs /dev/null)
	settled "$redis_ref" "$id" && return
	base=$(debian)
	mkdir "$work/redis"
	# Debian gives redis the next free id; upstream's is 999.
	cat >"$work/redis/Dockerfile" <<-DOCKERFILE
		FROM $base
		RUN usermod -u 999 -d /data redis && groupmod -g 999 redis && \
		    mkdir /data && chown redis:redis /data && rm -rf /var/lib/redis
		VOLUME /data
		WORKDIR /data
		EXPOSE 6379
		CMD ["redis-server"]
	DOCKERFILE
	assemble "$redis_ref" "$id" "$work/redis"
}

make_caddy() {
	local id base program
	program=$(binary caddy)
	id=$(inputs "$program")
	settled "$caddy_ref" "$id" && return
	base=$(debian)
	mkdir "$work/caddy"
	cp "$program" "$work/caddy/caddy"
	printf ':80\nroot * /usr/share/caddy\nfile_server\n' >"$work/caddy/Caddyfile"
	cat >"$work/caddy/Dockerfile" <<-DOCKERFILE
		FROM $base
		COPY caddy /usr/bin/caddy
		COPY Caddyfile /etc/caddy/Caddyfile
		RUN mkdir -p /config/caddy /data/caddy /usr/share/caddy && setcap cap_net_bind_service=+ep /usr/bin/caddy
		ENV CADDY_VERSION=v${caddy_ref#*:} XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
		WORKDIR /srv
		EXPOSE 80 443 443/udp 2019
		CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
	DOCKERFILE
	assemble "$caddy_ref" "$id" "$work/caddy"
}

# The image has nothing but the program, as upstream's. The capability is set in the Debian root, which has setcap.
make_coredns() {
	local id base program
	program=$(binary coredns)
	id=$(inputs "$program")
	settled "$coredns_ref" "$id" && return
	base=$(debian)
	mkdir "$work/coredns"
	cp "$program" "$work/coredns/coredns"
	cat >"$work/coredns/Dockerfile" <<-DOCKERFILE
		FROM $base AS capable
		COPY coredns /coredns
		RUN setcap cap_net_bind_service=+ep /coredns
		FROM scratch
		COPY --from=capable /coredns /coredns
		USER 65532:65532
		WORKDIR /
		EXPOSE 53 53/udp
		ENTRYPOINT ["/coredns"]
	DOCKERFILE
	assemble "$coredns_ref" "$id" "$work/coredns"
}

make_ollama() {
	local program
	program=$(binary ollama)
	ollama_image "$ollama_ref" "$program"
}

make_slow() {
	local program
	program=$(binary ollama)
	(cd "$root" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' \
		-o "$work/slowmodel" ./test/slowmodel/cmd/slowmodel)
	ollama_image "$ollama_ref-slow" "$program" "$work/slowmodel"
}

# ollama_image REF PROGRAM [FRONT]: Ollama with the tiny model. FRONT takes the program's name, and makes the Modelfile.
ollama_image() {
	local ref=$1 program=$2 front=${3-} id context=$work/ollama bare=codexcontinue-test/ollama:bare
	id=$(inputs "$program" ${front:+"$front"} "$root"/test/tinymodel/*.go)
	settled "$ref" "$id" && return
	rm -rf "$context"
	mkdir -p "$context"/root/{usr/bin,etc/ssl/certs,tmp,ollama} "$context/models"
	cp "$program" "$context/root/usr/bin/ollama"
	if [[ -n $front ]]; then
		mv "$context/root/usr/bin/ollama" "$context/root/usr/bin/ollama-real"
		cp "$front" "$context/root/usr/bin/ollama"
	fi
	ln -s usr/bin "$context/root/bin"
	cp /etc/ssl/certs/ca-certificates.crt "$context/root/etc/ssl/certs/"
	printf 'root:x:0:0:root:/root:/bin/false\n' >"$context/root/etc/passwd"
	chmod 1777 "$context/root/tmp"
	(cd "$root" && go run ./test/tinymodel/cmd/tinymodel "$context/root/tiny")
	[[ -z $front ]] || "$front" modelfile ./tiny.gguf >"$context/root/tiny/Modelfile"
	# /ollama itself belongs to root, like a mount point that the upstream image does not have: what makes it writable
	# is services/ollama/Dockerfile, here as there.
	cat >"$context/Dockerfile" <<-'DOCKERFILE'
		FROM scratch
		COPY root /
		COPY --chown=10001:10001 models /ollama/models
		ENV PATH=/usr/bin OLLAMA_HOST=0.0.0.0:11434
		EXPOSE 11434
		ENTRYPOINT ["/bin/ollama"]
		CMD ["serve"]
	DOCKERFILE
	# The model is created by this very Ollama, in a container of the image to be, and copied out.
	assemble "$bare" "$id" "$context"
	helper=$(docker run -d --network none --tmpfs /tmp -e HOME=/tmp -e OLLAMA_MODELS=/ollama/models "$bare")
	local tries=0
	until docker exec "$helper" ollama list >/dev/null 2>&1; do
		((++tries < 300)) || { docker logs --tail 20 "$helper" >&2; fail "ollama: the server did not answer"; }
		sleep 0.1
	done
	docker exec -w /tiny "$helper" ollama create tiny -f /tiny/Modelfile >"$work/create.log" 2>&1 || {
		cat "$work/create.log" >&2
		fail "ollama: creating the model failed"
	}
	rm -r "$context/models" "$context/root/tiny"
	docker cp "$helper:/ollama/models" "$context/models" >/dev/null
	docker rm -f "$helper" >/dev/null
	helper=
	assemble "$ref" "$id" "$context"
	docker rmi "$bare" >/dev/null
}

make_golang() {
	local id base goroot settings
	goroot=$(go env GOROOT)
	# What this machine changed about where modules come from holds inside as well.
	settings=$(go env -changed GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE GOINSECURE |
		tr -d "'" | sed -n 's/^\(GO[A-Z]*\)=\(..*\)$/ENV \1="\2"/p')
	local certificates=(/usr/local/share/ca-certificates/*.crt)
	[[ -e ${certificates[0]} ]] || certificates=()
	id=$({ inputs "$goroot/VERSION" ${certificates[@]+"${certificates[@]}"}; printf '%s\n' "$settings"; } | digest)
	settled "$golang_ref" "$id" && return
	base=$(debian)
	mkdir -p "$work/golang/certificates"
	[[ ${#certificates[@]} == 0 ]] || cp "${certificates[@]}" "$work/golang/certificates/"
	mkdir "$work/golang/go"
	tar -C "$goroot" --exclude=./test --exclude=./api --exclude=./doc --exclude=./.git -cf - . |
		tar -C "$work/golang/go" -xf -
	cat >"$work/golang/Dockerfile" <<-DOCKERFILE
		FROM $base
		COPY certificates /usr/local/share/ca-certificates
		RUN update-ca-certificates
		COPY go /usr/local/go
		ENV GOLANG_VERSION=$(go env GOVERSION | sed 's/^go//') GOTOOLCHAIN=local GOPATH=/go \
		    PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		$settings
		RUN mkdir -p /go/src /go/bin && chmod -R 1777 /go
		WORKDIR /go
	DOCKERFILE
	assemble "$golang_ref" "$id" "$work/golang"
}

[[ $# -gt 0 ]] || set -- all
[[ $1 != all ]] || set -- redis caddy coredns golang ollama
for name; do
	started=$SECONDS
	case $name in
	redis | caddy | coredns | ollama | golang | slow) "make_$name" ;;
	*) fail "$name: unknown; known are redis caddy coredns ollama golang slow all" ;;
	esac
done
