package main

import (
	"context"
	"errors"
	"io"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/knowledge"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	redislog "github.com/redis/go-redis/v9/logging"
)

// newKnowledge returns the peer of the configuration's knowledge, or nil if it has none.
func newKnowledge(cfg gateenv.Config, who *mtls.Identity) *hop.Client {
	if cfg.KnowledgeURL == "" {
		return nil
	}

	peer := hop.NewStreaming("knowledge", cfg.KnowledgeURL)
	peer.Secure(who.Client())
	return peer
}

// newDocuments returns what manages the documents of the peer.
func newDocuments(peer *hop.Client, signer *identity.Signer) *knowledge.Client {
	return knowledge.NewClient(peer, func(p identity.Person) string {
		return signer.Sign(p, identity.Knowledge)
	})
}

// manageDocuments manages the documents of knowledge, in a gate's container. `--by=NAME` says who
// asks. `gate knowledge add` reads the documents from in.
func manageDocuments(
	ctx context.Context, args, environ []string, in io.Reader, stdout io.Writer,
) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}
	if cfg.KnowledgeURL == "" {
		return errors.New("this stack has no knowledge: codexcontinue:knowledge is not set")
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	redislog.Disable()
	st, err := store.New(redisclient.Address(at))
	if err != nil {
		return err
	}
	defer st.Close()

	signer := identity.NewSigner(identity.Gate)
	if err := signer.Publish(ctx, st.Publish); err != nil {
		return err
	}

	by, args := flag(args, "--by=")
	return newDocuments(newKnowledge(cfg, who), signer).Command(ctx, args, by, in, stdout)
}
