// A certificate transparency log (RFC 6962): the log of Trillian, in memory, behind the front end
// that public logs run. They come as several programs and a database; here they are one process.
//
//	ct-log ADDRESS ROOTS.pem PUBLIC-KEY.pem
//
// takes certificates that chain to one of the roots, and writes its own public key, a new one.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/certificate-transparency-go/trillian/ctfe"
	"github.com/google/certificate-transparency-go/trillian/ctfe/configpb"
	"github.com/google/trillian"
	"github.com/google/trillian/client"
	"github.com/google/trillian/crypto/keys"
	"github.com/google/trillian/crypto/keys/der"
	"github.com/google/trillian/crypto/keyspb"
	"github.com/google/trillian/extension"
	sequencer "github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	address, roots, public := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	backend := trillianLog(ctx)
	tree := must(client.CreateAndInitTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
		TreeState:       trillian.TreeState_ACTIVE,
		TreeType:        trillian.TreeType_LOG,
		MaxRootDuration: durationpb.New(time.Hour),
	}}, trillian.NewTrillianAdminClient(backend), trillian.NewTrillianLogClient(backend)))

	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	keys.RegisterHandler(&keyspb.PrivateKey{}, der.FromProto)
	front := must(ctfe.SetUpInstance(ctx, ctfe.InstanceOptions{
		Validated: must(ctfe.ValidateLogConfig(&configpb.LogConfig{
			LogId:        tree.TreeId,
			Prefix:       "test",
			RootsPemFile: []string{roots},
			PrivateKey:   must(anypb.New(&keyspb.PrivateKey{Der: must(x509.MarshalECPrivateKey(key))})),
			ExtKeyUsages: []string{"CodeSigning"},
		})),
		Client:        trillian.NewTrillianLogClient(backend),
		Deadline:      10 * time.Second,
		MetricFactory: monitoring.InertMetricFactory{},
		RequestLog:    new(ctfe.DefaultRequestLog),
	}))
	for path, handler := range front.Handlers {
		http.Handle(path, handler)
	}
	spki := must(x509.MarshalPKIXPublicKey(key.Public()))
	check(os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644))
	check(http.ListenAndServe(address, nil))
}

// Starts the log and the sequencer that takes what is queued into its tree.
func trillianLog(ctx context.Context) *grpc.ClientConn {
	trees := memory.NewTreeStorage()
	registry := extension.Registry{
		AdminStorage: memory.NewAdminStorage(trees),
		LogStorage:   memory.NewLogStorage(trees, monitoring.InertMetricFactory{}),
		QuotaManager: quota.Noop(),
	}
	service := grpc.NewServer()
	trillian.RegisterTrillianAdminServer(service, admin.New(registry, nil))
	trillian.RegisterTrillianLogServer(service, server.NewTrillianLogRPCServer(registry, clock.System))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	go func() { check(service.Serve(listener)) }()
	go sequencer.NewOperationManager(sequencer.OperationInfo{
		Registry:    registry,
		BatchSize:   50,
		NumWorkers:  1,
		RunInterval: 100 * time.Millisecond,
		TimeSource:  clock.System,
	}, sequencer.NewSequencerManager(registry, 0)).OperationLoop(ctx)
	insecure := grpc.WithTransportCredentials(insecure.NewCredentials())
	return must(grpc.NewClient(listener.Addr().String(), insecure))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
