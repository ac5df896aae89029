package targets

func rendered(text string) Outcome   { return Outcome{Rendered, text} }
func refused(text string) Outcome    { return Outcome{Refused, text} }
func unenforced(text string) Outcome { return Outcome{Unenforced, text} }
func machine(text string) Outcome    { return Outcome{Machine, text} }
func other(text string) Outcome      { return Outcome{Other, text} }

// What is said of several fields.
var (
	policyReads = other("read by `codexctl policy`")
	withRoute   = refused("with the route")
	ofCluster   = "an engine has one node"
	kubeletLog  = machine("the kubelet's `containerLogMaxSize` and `containerLogMaxFiles`")
	textsByLoad = other("read by Load, which gives the frontend a file of its texts (`File.Content`), and by the policy")
	inContract  = other("in the environment, by `Service.Contract`")
)

// Capabilities are the entries for all Fields, in their order.
var Capabilities = []Capability{
	{"Stack.Name", rendered("part of the names of networks, volumes and containers; label `dev.codexcontinue.stack`"), rendered("Namespace `codexcontinue-<name>`; the same label")},
	{"Stack.Development", other("read by the dev overlay and by validation"), other("read by the dev overlay and by validation")},
	{"Stack.Domain", textsByLoad, textsByLoad},
	{"Stack.Route", refused("publish a port with `edge.port` and `edge.address`"), rendered("HTTPRoute or Ingress to the edge")},
	{"Stack.Registry", refused("images run on the engine that builds them"), rendered("images are built and pushed there, and pods name their digests; without it they are put onto the nodes by `codexctl images load`")},

	{"Network.Name", rendered("bridge network `<name>-<stack>`"), other("a namespace is one network: who reaches whom are NetworkPolicies, by `Service.Calls`")},
	{"Network.Internal", rendered("network without a way out"), other("nobody gets out but by `Service.Outside`, which must name single addresses for a service on internal networks only")},

	{"Volume.Name", rendered("volume `codexcontinue-<name>-<stack>`"), rendered("PersistentVolumeClaim, of the StatefulSet's template or shared")},
	{"Volume.Size", machine("the disk under the engine's data root, as the local driver reserves nothing; `volumes.<name>.size` in the settings is refused"), rendered("storage request of the claim")},
	{"Volume.Class", refused("an engine has no storage classes"), rendered("`storageClassName` of the claim")},
	{"Volume.PerReplica", other("there is one replica; more are refused as `replicas`"), rendered("claims that go when the StatefulSet shrinks, where others are kept; lets it have several replicas")},
	{"Volume.SingleWriter", rendered("the container is stopped before its successor starts (`deleteBeforeReplace`)"), other("the one pod of a StatefulSet always is gone before its successor starts")},
	{"Volume.Shared", refused("one engine runs one Ollama"), rendered("one claim (ReadWriteMany), read-only in the replicas, written to by the Job that makes the model")},

	{"Secret.Name", other("the name by which files refer to it"), other("the name by which files refer to it")},
	{"Secret.ConfigKey", rendered("the value of that key, in the files that name the secret"), rendered("the value of that key, in a Secret")},

	{"Service.Name", rendered("container `codexcontinue-<stack>-<name>-<random>`, network alias `<name>`"), rendered("Deployment or StatefulSet, Service, ServiceAccount, NetworkPolicy")},
	{"Service.Entrypoint", rendered("`entrypoints`"), rendered("`command`")},
	{"Service.Command", rendered("`command`"), rendered("`args`")},
	{"Service.Contract", rendered("environment"), rendered("environment, with APPLY_MODEL=false: the Job makes the model")},
	{"Service.Env", rendered("environment"), rendered("environment")},
	{"Service.Networks", rendered("networks of the container"), other("see `Network.Name`")},
	{"Service.DependsOn", rendered("order: a container is made after those and removed before them"), rendered("order: a workload is made after those and removed before them")},
	{"Service.Calls", unenforced("all services of a network reach each other. What is: nobody reaches a service without a network in common (`Service.Networks`)"), rendered("NetworkPolicies of both ends, for the first port")},
	{"Service.Replicas", rendered("containers behind one alias"), rendered("`replicas`; with several, a PodDisruptionBudget and topology spread")},
	{"Service.Autoscale", refused("an engine does not watch the load"), rendered("HorizontalPodAutoscaler, and no `replicas`")},
	{"Service.GPU", rendered("`gpus`, or the NVIDIA runtime with the devices"), rendered("limit of the extended resource, and a toleration of its taint")},
	{"Service.StopGrace", rendered("`stopTimeout`, `destroyGraceSeconds`"), rendered("`terminationGracePeriodSeconds`, with the preStop sleep added")},
	{"Service.StartTimeout", other("how long `up` waits for the container to be healthy"), rendered("failures that the startup probe allows; `progressDeadlineSeconds`; how long `up` waits")},

	{"Image.Ref", rendered("RemoteImage, by ID"), rendered("`image`")},
	{"Image.Build", rendered("Image, built on the engine"), rendered("`image`, by the digest of the build's inputs")},

	{"Build.Repository", rendered("image name"), rendered("image name")},
	{"Build.Context", rendered("build context"), rendered("build context; part of the image's tag by what is in it")},
	{"Build.Dockerfile", rendered("Dockerfile"), rendered("Dockerfile; part of the image's tag by its text")},
	{"Build.Target", rendered("stage"), rendered("stage; part of the image's tag")},
	{"Build.Args", rendered("build arguments"), rendered("build arguments; part of the image's tag")},

	{"Port.Name", rendered("scheme of the address in the outputs"), rendered("name of the container's and the Service's port")},
	{"Port.Container", rendered("inner end of a published port; what is not published needs no words"), rendered("container port, target of the Service, port of the NetworkPolicies")},
	{"Port.Host", rendered("published port"), rendered("port of the edge's Service; refused for others")},
	{"Port.Address", rendered("address of the published port"), rendered("loopback is a Service inside the cluster, `0.0.0.0` and `::` a LoadBalancer; others are refused")},

	{"Mount.Kind", rendered("volume, bind or tmpfs"), rendered("claim, ConfigMap (of `modelfiles` alone; other binds are refused) or `emptyDir` in memory")},
	{"Mount.Source", rendered("volume, or path below the checkout"), rendered("claim; a bind is refused but for `modelfiles`")},
	{"Mount.Target", rendered("`target`"), rendered("`mountPath`")},
	{"Mount.ReadOnly", rendered("`readOnly`"), rendered("`readOnly`")},
	{"Mount.Size", rendered("`size` of the tmpfs"), rendered("`sizeLimit` of the `emptyDir`")},
	{"Mount.Exec", rendered("`exec` or `noexec` of the tmpfs"), unenforced("pods have no `noexec`: a program can write others to an `emptyDir` and run them. What is: a root file system that cannot be written to, no capabilities, no new privileges (`Service.Security`)")},

	{"File.Path", rendered("upload into the container that carries the files"), rendered("key of a ConfigMap or Secret, mounted at the path")},
	{"File.Content", rendered("upload"), rendered("immutable ConfigMap with the content's hash in its name, or Secret")},
	{"File.Secret", rendered("upload that Pulumi keeps encrypted"), rendered("immutable Secret")},

	{"Outside.Host", unenforced("a network that is not internal lets everything out. What is: `Network.Internal`, on which an `Outside` is refused"), rendered("egress to the address. *Not enforced* for a name, as policies know none: any address but link-local ones")},
	{"Outside.Port", unenforced("see `Outside.Host`"), rendered("egress to that port")},
	{"Outside.Reason", other("for people"), other("for people")},

	{"Health.Command", rendered("health check"), rendered("the probes, where there is no `LivePath`")},
	{"Health.LivePath", other("`Health.Command` asks it, from inside"), rendered("startup and liveness probe")},
	{"Health.ReadyPath", other("health is all that an engine asks; the edge and callers ask each other"), rendered("readiness probe")},
	{"Health.Interval", rendered("`interval`"), rendered("`periodSeconds` of readiness, a third of liveness'")},
	{"Health.Timeout", rendered("`timeout`"), rendered("`timeoutSeconds`")},
	{"Health.StartPeriod", rendered("`startPeriod`"), other("the startup probe keeps the others away until `Service.StartTimeout`")},
	{"Health.Retries", rendered("`retries`"), rendered("`failureThreshold`")},

	{"Autoscale.Min", refused("with `Service.Autoscale`"), rendered("`minReplicas`")},
	{"Autoscale.Max", refused("with `Service.Autoscale`"), rendered("`maxReplicas`")},
	{"Autoscale.CPU", refused("with `Service.Autoscale`"), rendered("mean processor time per pod")},

	{"Resources.CPU", rendered("`cpuQuota`"), rendered("limit; a tenth is requested; quota of the namespace")},
	{"Resources.Memory", rendered("`memory`, without swap"), rendered("limit and request; quota of the namespace")},
	{"Resources.PIDs", rendered("pids limit, set by a hook after the container is made"), machine("the kubelet's `podPidsLimit`; `services.<name>.pids` in the settings is refused")},

	{"GPU.Count", rendered("the first devices; all of them by `gpus`"), rendered("number of devices; all is refused")},
	{"GPU.Devices", rendered("devices of the NVIDIA runtime"), refused("the device plugin chooses")},
	{"GPU.Resource", refused("name slices by UUID"), rendered("extended resource")},
	{"GPU.RuntimeClass", refused("the engine's runtime is nvidia"), rendered("`runtimeClassName`")},
	{"GPU.NodeSelector", refused(ofCluster), rendered("`nodeSelector`")},

	{"Toleration.Key", refused(ofCluster), rendered("`tolerations`")},
	{"Toleration.Value", refused(ofCluster), rendered("`tolerations`")},
	{"Toleration.Effect", refused(ofCluster), rendered("`tolerations`")},

	{"Security.UID", rendered("`user`"), rendered("`runAsUser`")},
	{"Security.GID", rendered("`user`"), rendered("`runAsGroup`; `fsGroup` of claims")},
	{"Security.WritableRoot", rendered("`readOnly: false`"), rendered("`readOnlyRootFilesystem: false`")},
	{"Security.KeepCapabilities", rendered("`capabilities.adds`, after all are dropped"), rendered("`capabilities.add`, after all are dropped; NET_BIND_SERVICE alone, others are refused")},

	{"Log.MaxSize", rendered("`max-size` of the log driver"), kubeletLog},
	{"Log.MaxFiles", rendered("`max-file` of the log driver"), kubeletLog},

	{"Model.Name", inContract, inContract},
	{"Model.Modelfile", inContract, rendered("ConfigMap of the Modelfile and the files that it names")},
	{"Model.Base", inContract, rendered("which files the Modelfile still needs; else in the environment")},
	{"Model.Digest", inContract, rendered("part of the hash in the name of the Job that makes the model")},

	{"Route.Host", withRoute, rendered("host name of the route, and of the Gateway's listeners")},
	{"Route.Gateway", withRoute, rendered("HTTPRoute")},
	{"Route.Ingress", withRoute, rendered("Ingress")},
	{"Route.TLS", withRoute, rendered("encrypted listener, and a redirect to it; `tls` of the Ingress")},

	{"Gateway.Name", withRoute, rendered("`parentRefs` of the HTTPRoute")},
	{"Gateway.Namespace", withRoute, rendered("`parentRefs` of the HTTPRoute")},
	{"Gateway.Class", withRoute, rendered("Gateway of the stack's own; a NetworkPolicy and a share of the quota for what its controller puts beside it")},

	{"Ingress.Class", withRoute, rendered("`ingressClassName`")},

	{"TLS.Secret", withRoute, rendered("certificate of the listener or the Ingress")},
	{"TLS.Issuer", withRoute, rendered("cert-manager's annotation")},
	{"TLS.ClusterIssuer", withRoute, rendered("cert-manager's annotation")},

	{"Waiver.Rule", policyReads, policyReads},
	{"Waiver.Subject", policyReads, policyReads},
	{"Waiver.Reason", policyReads, policyReads},
	{"Waiver.Expires", policyReads, policyReads},
}
