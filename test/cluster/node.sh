# The node: all of the cluster's processes, in the order in which they need each other.

programs=(containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy policies coredns
	control)

# configure writes the files of etc/ with what is to stand for @NAME@.
configure() {
	local file restrict=false
	# Without CAP_SYS_RESOURCE runc cannot lower a score, and no pod starts: containerd then raises what is asked for to
	# its own.
	(echo -998 >/proc/self/oom_score_adj) 2>/dev/null || restrict=true
	mkdir -p "$etc/cni"
	for file in containerd.toml cni/10-bridge.conflist resolv.conf kubelet.yaml kube-proxy.yaml Corefile bootstrap.yaml; do
		sed -e "s|@RUN@|$run|g; s|@ETC@|$etc|g; s|@PKI@|$pki|g; s|@LOG@|$log|g; s|@SOCKET@|$socket|g; s|@PAUSE@|$pause|g" \
			-e "s|@RESTRICT_OOM@|$restrict|g; s|@BRIDGE@|$bridge|g" \
			-e "s|@NODE@|$node|g; s|@NODE_IP@|$node_ip|g; s|@DNS_IP@|$dns_ip|g; s|@POD_CIDR@|$pod_cidr|g" \
			"$here/etc/$file" >"$etc/$file"
	done
}

control() { "$bin/control" "$1" "$kubeconfig" "${@:2}"; }
answers() {
	curl -sf --max-time 2 --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" \
		"https://$node_ip:6443/readyz"
}
fence() { iptables -w -S KUBE-ROUTER-FORWARD; }
rules() { iptables -w -t nat -S KUBE-SERVICES | grep -q "$api_service_ip"; }

start_node() {
	mkdir -p "$pids" "$run/pv" "$log/pods"
	chmod 700 "$run"
	local name
	for name in "${programs[@]}"; do rm -f "$log/$name.log"; done
	settings_save
	certificates
	configure
	network_up

	start containerd "$(command -v containerd)" --config "$etc/containerd.toml"
	# Nothing here outlives the machine: no write waits for the disk.
	start etcd "$bin/etcd" --name "$node" --data-dir "$run/etcd" --unsafe-no-fsync --log-level warn \
		--listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
		--listen-peer-urls "http://127.0.0.1:$etcd_peer_port" \
		--initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer_port" \
		--initial-cluster "$node=http://127.0.0.1:$etcd_peer_port"
	start kube-apiserver "$bin/kube" kube-apiserver --etcd-servers="http://127.0.0.1:$etcd_port" \
		--bind-address="$node_ip" --advertise-address="$node_ip" --secure-port=6443 \
		--service-cluster-ip-range="$service_cidr" --client-ca-file="$pki/ca.crt" --cert-dir="$pki" \
		--tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
		--service-account-issuer=https://kubernetes.default.svc.cluster.local \
		--service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
		--kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
		--kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
	wait_for 60 containerd "containerd" ctr -a "$socket" version
	ctr -a "$socket" -n k8s.io images import "$home/pause.tar" >/dev/null
	wait_for 120 kube-apiserver "the API server" answers
	control apply "$etc/bootstrap.yaml"

	start kube-controller-manager "$bin/kube" kube-controller-manager \
		--kubeconfig="$pki/controller-manager.kubeconfig" --bind-address=127.0.0.1 \
		--leader-elect=false --use-service-account-credentials=true \
		--service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
		--cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
		--cluster-cidr="$pod_cidr" --allocate-node-cidrs=false \
		--flex-volume-plugin-dir="$run/flexvolume" --cert-dir="$run/certs-controller-manager"
	start kube-scheduler "$bin/kube" kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" --bind-address=127.0.0.1 \
		--leader-elect=false --cert-dir="$run/certs-scheduler"
	start kubelet "$bin/kube" kubelet --config="$etc/kubelet.yaml" \
		--kubeconfig="$pki/kubelet.kubeconfig" --root-dir="$run/kubelet" \
		--cert-dir="$pki" --hostname-override="$node" --node-ip="$node_ip" --oom-score-adj=0
	start kube-proxy "$bin/kube" kube-proxy --config="$etc/kube-proxy.yaml"
	start coredns "$bin/dns" -conf "$etc/Corefile"
	start control "$bin/control" run "$pki/control.kubeconfig" "$run/pv"

	wait_for 120 kubelet "the node" control ready "$node"
	settings_restore '^(vm|kernel)\.' # the kubelet has set panic_on_oops and the like when it started
	wait_for 60 kube-proxy "the rules of kube-proxy" rules
	start policies "$bin/policies" "$kubeconfig" "$node" "$service_cidr" # which asks for the node at once
	wait_for 60 policies "the rules of network policies" fence
	wait_for 60 coredns "CoreDNS" curl -sf --max-time 2 "http://$node_ip:18181/ready"
}

stop_node() {
	local name folder pid mount
	for name in control coredns policies kube-scheduler kube-controller-manager kubelet; do stop "$name"; done
	if alive containerd; then "$bin/control" purge "$socket" || say "some pods did not stop cleanly"; fi
	for name in kube-proxy kube-apiserver etcd containerd; do stop "$name"; done
	# After a crash: processes of ours that $pids forgot, known by their program or by what their command line names.
	for folder in /proc/[0-9]*; do
		if [[ $(readlink "$folder/exe") == "$bin"/* ]] ||
			{ tr '\0' ' ' <"$folder/cmdline"; } 2>/dev/null |
			grep -qF -e " --config $etc/containerd.toml " -e " -address $socket "; then
			kill -9 "${folder#/proc/}" 2>/dev/null || true
		fi
	done
	# What is left of our pods.
	while IFS= read -r folder; do
		while IFS= read -r pid; do
			kill -9 "$pid" 2>/dev/null || true
		done < <(find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null)
	done < <(find /sys/fs/cgroup -maxdepth 2 -type d -name kubepods)
	for _ in 1 2 3; do
		while IFS= read -r mount; do
			umount "$mount" 2>/dev/null || umount -l "$mount" || true
		done < <(awk -v p="$run/" 'index($2, p) == 1 { print $2 }' /proc/mounts | sort -r)
	done
	network_down
	for folder in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
		[[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	done
	settings_restore
	if grep -q " $run/" /proc/mounts; then fail "something is still mounted under $run"; fi
	rm -rf "$run" "$log/pods" "$kubeconfig"
	# Links of the kubelet to the logs of pods that are gone.
	for mount in /var/log/containers/*; do
		if [[ -L $mount && ! -e $mount && $(readlink "$mount") == "$log"/pods/* ]]; then rm -f "$mount"; fi
	done
	rm -f /var/lib/kubelet/device-plugins/kubelet.sock /var/lib/kubelet/device-plugins/DEPRECATION
	rmdir /var/lib/kubelet/device-plugins /var/lib/kubelet /var/log/containers 2>/dev/null || true
}
