package diff_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path"
	"strings"
	"testing"

	prop "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// pretender stands between the Pulumi engine and a real provider plugin, which answers everything
// but one thing: creating is believed. So the engine writes the state that an `up` leaves behind,
// with the provider's own defaults, and nothing is made anywhere. One process of the plugin serves
// every provider of the program; what their settings change is not asked here.
type pretender struct {
	pkg  string
	real *grpc.ClientConn
}

// frame is a message that is passed on as it came.
type frame []byte

type frames struct{}

func (frames) Name() string                  { return "proto" }
func (frames) Marshal(v any) ([]byte, error) { return *v.(*frame), nil }
func (frames) Unmarshal(data []byte, v any) error {
	*v.(*frame) = data
	return nil
}

// deaf is an engine that hears no log lines. The plugin wants one to be started with, and is
// given the real one later.
type deaf struct {
	pulumirpc.UnimplementedEngineServer
}

func (deaf) Log(context.Context, *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// pretend starts the plugin in the folder of the Pulumi program, as the engine does, and what
// stands before it, and returns the latter's port.
func pretend(t *testing.T, pkg, program, dir string) (port int) {
	t.Helper()
	engine := grpc.NewServer()
	pulumirpc.RegisterEngineServer(engine, deaf{})
	engineAddr := listen(t, engine)

	cmd := exec.Command(program, engineAddr.String())
	cmd.Dir = dir
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // as it was killed
	})

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}

	p := &pretender{pkg: pkg}
	p.real, err = grpc.NewClient("127.0.0.1:"+strings.TrimSpace(line),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(frames{}), grpc.MaxCallRecvMsgSize(1<<30),
			grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { p.real.Close() })
	return listen(t,
		grpc.NewServer(grpc.ForceServerCodec(frames{}), grpc.UnknownServiceHandler(p.serve),
			grpc.MaxRecvMsgSize(1<<30))).Port
}

// idleEngine is the DOCKER_HOST of an engine that says it is there, which the provider asks first,
// and that every container is well, which the program asks after it was created. It can do nothing.
func idleEngine(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch path.Base(r.URL.Path) {
		case "_ping":
		case "version", "info", "update":
			fmt.Fprint(w, "{}")
		case "json":
			fmt.Fprint(w,
				`{"State":{"Status":"running","Running":true,"Health":{"Status":"healthy"}}}`)
		default:
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprint(w, `{"message":"this engine does nothing"}`)
		}
	}))

	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

func listen(t *testing.T, server *grpc.Server) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})

	return l.Addr().(*net.TCPAddr)
}

// serve answers one call: all of the provider's take one message and return one.
func (p *pretender) serve(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var in, out frame
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}

	var err error
	switch method {
	case pulumirpc.ResourceProvider_Create_FullMethodName:
		out, err = p.create(stream.Context(), in)
	case pulumirpc.ResourceProvider_Update_FullMethodName,
		pulumirpc.ResourceProvider_Delete_FullMethodName,
		pulumirpc.ResourceProvider_Read_FullMethodName:
		err = status.Error(codes.Unimplemented, "only what is new is pretended")
	default:
		err = p.real.Invoke(stream.Context(), method, &in, &out)
	}

	if err != nil {
		return err
	}

	return stream.SendMsg(&out)
}

var keepAll = plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true}

// create answers that the resource was created, with an ID that is made of its name.
func (p *pretender) create(ctx context.Context, in frame) (frame, error) {
	var req pulumirpc.CreateRequest
	if err := proto.Unmarshal(in, &req); err != nil {
		return nil, err
	}

	inputs, err := plugin.UnmarshalProperties(req.GetProperties(), keepAll)
	if err != nil {
		return nil, err
	}

	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(req.GetUrn()+inputs["name"].String())))
	response := &pulumirpc.CreateResponse{Id: sum}
	outputs := inputs.Copy()
	typ := string(prop.URN(req.GetUrn()).Type())
	if native := p.pkg == "kubernetes" || typ == "docker:index/image:Image"; native {
		// A cluster answers with what it was sent, a builder with the image's ID; the provider
		// keeps its inputs beside that.
		outputs["__inputs"] = prop.NewProperty(inputs)
	} else if outputs, err = p.planned(ctx, &req); err != nil {
		return nil, err
	}

	for key, value := range answered(typ, sum) {
		if _, has := outputs[key]; !has {
			outputs[key] = value
		}
	}

	if response.Properties, err = plugin.MarshalProperties(outputs, keepAll); err != nil {
		return nil, err
	}

	return proto.Marshal(response)
}

// planned returns what the provider says in a preview that the resource will be, without what
// only an engine knows.
func (p *pretender) planned(
	ctx context.Context, req *pulumirpc.CreateRequest,
) (prop.PropertyMap, error) {
	req.Preview = true
	text, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}

	ask, answer := frame(text), frame(nil)
	if err := p.real.Invoke(ctx, pulumirpc.ResourceProvider_Create_FullMethodName, &ask,
		&answer); err != nil {
		return nil, err
	}

	var planned pulumirpc.CreateResponse
	if err := proto.Unmarshal(answer, &planned); err != nil {
		return nil, err
	}

	outputs, err := plugin.UnmarshalProperties(planned.GetProperties(), keepAll)
	maps.DeleteFunc(outputs, func(_ prop.PropertyKey, v prop.PropertyValue) bool {
		return v.ContainsUnknowns()
	})
	return outputs, err
}

// answered returns what an engine would have answered, as far as the program or the provider looks
// at it later.
func answered(typ, sum string) prop.PropertyMap {
	none, id := prop.NewProperty([]prop.PropertyValue{}), prop.NewProperty("sha256:"+sum)
	switch typ {
	case "docker:index/image:Image":
		return prop.PropertyMap{"repoDigest": id}
	case "docker:index/remoteImage:RemoteImage":
		return prop.PropertyMap{"imageId": id, "repoDigest": id}
	case "docker:index/network:Network":
		return prop.PropertyMap{"options": prop.NewProperty(prop.PropertyMap{})}
	case "docker:index/container:Container":
		return prop.PropertyMap{
			"command":      none,
			"entrypoints":  none,
			"envs":         none,
			"networkDatas": none,
		}
	}

	return nil
}
