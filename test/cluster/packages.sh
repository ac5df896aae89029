# What the cluster needs of Debian, and the one image that it cannot do without.

packages() {
	local wanted=() policy='' status=0
	{ command -v containerd && command -v ctr; } >/dev/null || wanted+=(containerd)
	command -v runc >/dev/null || wanted+=(runc)
	command -v iptables >/dev/null || wanted+=(iptables)
	command -v ipset >/dev/null || wanted+=(ipset)
	command -v openssl >/dev/null || wanted+=(openssl)
	command -v ip >/dev/null || wanted+=(iproute2)
	command -v sysctl >/dev/null || wanted+=(procps)
	[[ -x /usr/lib/cni/bridge ]] || wanted+=(containernetworking-plugins)
	[[ ${#wanted[@]} -gt 0 ]] || return 0
	say "installing ${wanted[*]}"
	# Nothing that is installed may start a service: a containerd of the machine's own is not ours to start.
	if [[ ! -e /usr/sbin/policy-rc.d ]]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	mkdir -p "$log"
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${wanted[@]}"; } \
		>"$log/packages.log" 2>&1 || status=$?
	[[ -z $policy ]] || rm -f "$policy"
	[[ $status == 0 ]] || {
		tail -n 20 "$log/packages.log" >&2
		fail "apt-get failed; the whole log is $log/packages.log"
	}
}

# pause_image writes $home/pause.tar, an archive as `docker save` makes it, with nothing but the program in it.
pause_image() {
	local archive=$home/pause.tar
	[[ ! $archive -nt $bin/pause ]] || return 0
	local work diff config
	work=$(mktemp -d)
	tar -C "$bin" --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" pause
	diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
	printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":%s}' "$(go env GOARCH)" \
		'{"Entrypoint":["/pause"],"User":"65535:65535"}' \
		"{\"type\":\"layers\",\"diff_ids\":[\"sha256:$diff\"]}" >"$work/config"
	config=$(sha256sum "$work/config" | cut -d' ' -f1).json
	mv "$work/config" "$work/$config"
	printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$pause" >"$work/manifest.json"
	tar -C "$work" -cf "$archive.part" manifest.json "$config" layer.tar
	mv "$archive.part" "$archive"
	rm -rf "$work"
}
