# The cluster's own authority, and what it signs. All of it is made by `up` and removed by `down`.

# certificate NAME CN O EXTENDED-USAGE [SAN]
certificate() {
	local name=$1 subject=/CN=$2
	[[ -z $3 ]] || subject=/O=$3/CN=$2
	openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$name.key"
	openssl req -new -key "$pki/$name.key" -subj "$subject" -out "$pki/$name.csr"
	{
		printf '%s\n' "basicConstraints=CA:FALSE" "keyUsage=digitalSignature,keyEncipherment" "extendedKeyUsage=$4"
		[[ -z ${5:-} ]] || printf '%s\n' "subjectAltName=$5"
	} >"$pki/$name.ext"
	openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -set_serial "0x$(openssl rand -hex 12)" \
		-days 365 -sha256 -extfile "$pki/$name.ext" -out "$pki/$name.crt" 2>/dev/null
	rm -f "$pki/$name.csr" "$pki/$name.ext"
}

# access NAME FILE: a kubeconfig for the holder of that certificate.
access() {
	cat >"$2" <<-END
		apiVersion: v1
		kind: Config
		clusters:
		- name: codexcontinue-test
		  cluster:
		    server: "https://$node_ip:6443"
		    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
		users:
		- name: $1
		  user:
		    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
		    client-key-data: $(base64 -w0 "$pki/$1.key")
		contexts: [{name: codexcontinue-test, context: {cluster: codexcontinue-test, user: $1}}]
		current-context: codexcontinue-test
	END
}

certificates() {
	local name names service=kubernetes.default.svc
	mkdir -p "$pki"
	umask 077
	openssl ecparam -name prime256v1 -genkey -noout -out "$pki/ca.key"
	openssl req -x509 -new -key "$pki/ca.key" -subj /CN=codexcontinue-test -days 365 -sha256 -out "$pki/ca.crt" \
		-addext "keyUsage=critical,digitalSignature,keyCertSign,cRLSign"
	openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
	openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
	names=DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,DNS:localhost
	certificate apiserver kube-apiserver "" serverAuth \
		"$names,IP:127.0.0.1,IP:$node_ip,IP:$api_service_ip"
	certificate apiserver-kubelet kube-apiserver-kubelet-client system:masters clientAuth
	certificate kubelet-server "system:node:$node" system:nodes serverAuth "DNS:$node,IP:$node_ip"
	certificate kubelet "system:node:$node" system:nodes clientAuth
	certificate admin kubernetes-admin system:masters clientAuth
	certificate controller-manager system:kube-controller-manager "" clientAuth
	certificate scheduler system:kube-scheduler "" clientAuth
	certificate kube-proxy system:kube-proxy "" clientAuth
	certificate coredns system:coredns "" clientAuth
	certificate control codexcontinue-control system:masters clientAuth
	for name in kubelet controller-manager scheduler kube-proxy coredns control; do
		access "$name" "$pki/$name.kubeconfig"
	done
	access admin "$kubeconfig"
	umask 022
}
