package stacks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ollama/ollama/types/model"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

const (
	// Knowledge is the name of the service that keeps documents and finds passages of them. A stack
	// has it where its overlay or its settings name collections.
	Knowledge = "knowledge"

	// KnowledgeData is the volume with the documents and their index.
	KnowledgeData = "knowledge-data"
)

const (
	knowledgePort = 7000
	knowledgeDir  = "/data"

	// knowledgeDrain is how long it waits for what it does when it stops. Nobody is answered until
	// its successor is there, as the volume takes one writer.
	knowledgeDrain = 20 * time.Second

	// maxCollections is more than a list on a page is good for.
	maxCollections = 50
)

// KnowledgeSettings are the collections of documents that a stack answers from.
type KnowledgeSettings struct {
	// Collections are groups by the name of the collection that their people may read. One without
	// groups is for everybody.
	Collections map[string][]string

	// Embedding is the model that makes vectors. Empty finds passages by words alone.
	Embedding string
}

func (s *Settings) decodeKnowledge(v string) error {
	if strings.TrimSpace(v) == "{}" {
		return nil
	}

	k := &KnowledgeSettings{Collections: map[string][]string{}}
	s.Knowledge = k
	err := object(fields{"collections": k.decodeCollections, "embedding": k.decodeEmbedding})(v)
	if err == nil && len(k.Collections) == 0 {
		err = prefixed("collections", fmt.Errorf("is not set: write it like {handbook: %s, "+
			"contracts: [legal]}", everybody))
	}
	return err
}

func (k *KnowledgeSettings) decodeCollections(v string) error {
	err := eachKey(v, func(name, v string) error {
		if !nameRule.MatchString(name) {
			return errors.New("is no name of at most 40 characters: use lower-case letters, digits " +
				"and dashes")
		}

		k.Collections[name] = nil
		if v == everybody {
			return nil
		}
		if !strings.HasPrefix(v, "[") {
			return fmt.Errorf("must be a list of groups, or %s, got %q", everybody, v)
		}

		var groups []string
		err := list(appendText(&groups))(v)
		k.Collections[name] = groups
		return err
	})
	if err == nil && len(k.Collections) > maxCollections {
		err = fmt.Errorf("names %d: leave %d at most", len(k.Collections), maxCollections)
	}
	return err
}

func (k *KnowledgeSettings) decodeEmbedding(v string) error {
	if err := text(&k.Embedding)(v); err != nil {
		return err
	}
	if !model.ParseName(v).IsValid() {
		return fmt.Errorf("%q is no name of a model, such as nomic-embed-text or bge-m3:567m", v)
	}
	return nil
}

// knowledge keeps documents and finds passages of them, for the backend and the gate.
func knowledge(environment string) Service {
	c := &knowledgeenv.Config{
		Common:       common(environment, knowledgePort),
		MLServiceURL: url("http", ML, mlPort),
		DataDir:      knowledgeDir,
	}
	c.DrainTimeout = knowledgeDrain

	s := own(Knowledge, knowledgePort, "/health")
	s.Contract, s.StopGrace = c, 2*knowledgeDrain
	s.DataFormat = knowledgeenv.DataFormat
	s.Image.Build.Args["DATA"] = knowledgeDir
	s.Mounts = []Mount{{Kind: MountVolume, Source: KnowledgeData, Target: knowledgeDir}}
	// It finds passages by words while ml is away, and chat goes on while it is away itself: so
	// nobody waits for it to start.
	s.DependsOn, s.Calls = []string{Redis}, []string{Redis, ML}
	// A document is read by a process of its own, in up to 768 MiB, beside the index of all others.
	s.Resources.Memory = 2 * GiB
	// It opens the index of all documents first.
	s.Health.StartPeriod, s.StartTimeout = 2*time.Minute, 5*time.Minute
	return s
}

// addKnowledge gives the stack the service, or other collections if it has it. An overlay calls it
// before prod or dev, which then treat the service like the others.
func (s *Stack) addKnowledge(v KnowledgeSettings) {
	if s.Service(Knowledge) == nil {
		s.Volumes = append(s.Volumes,
			// Two servers that write one index break it.
			Volume{Name: KnowledgeData, Size: 20 * GiB, SingleWriter: true})
		s.Services = append(s.Services, knowledge(s.Name))
		for _, name := range []string{Gate, Backend} {
			if svc := s.Service(name); svc != nil {
				svc.Calls = append(svc.Calls, Knowledge)
			}
		}
	}

	edit(s, func(c *knowledgeenv.Config) {
		c.Collections, c.EmbeddingModel = maps.Clone(v.Collections), v.Embedding
	})
}

// Embedding returns the model that makes vectors of documents; empty is none.
func (s *Stack) Embedding() string {
	if svc := s.Service(Knowledge); svc != nil {
		if c, ok := svc.Contract.(*knowledgeenv.Config); ok {
			return c.EmbeddingModel
		}
	}
	return ""
}

// applyKnowledge tells the other services of the collections, those of the settings if these name
// any. It comes when it is known how people sign in.
func (s *Stack) applyKnowledge(v *KnowledgeSettings) error {
	svc := s.Service(Knowledge)
	switch {
	case svc == nil && v != nil:
		return fmt.Errorf("%s:knowledge: this stack has no service %s", Project, Knowledge)
	case svc == nil:
		return nil
	case v != nil:
		s.addKnowledge(*v)
	}

	c, ok := svc.Contract.(*knowledgeenv.Config)
	if !ok {
		return nil // an overlay has put another in its place
	}

	var errs []error
	nobody := s.SignIn() == "" || s.SignIn() == gateenv.None
	for _, name := range slices.Sorted(maps.Keys(c.Collections)) {
		if nobody && len(c.Collections[name]) > 0 {
			errs = append(errs, fmt.Errorf("%s:knowledge.collections.%s: nobody signs in to this "+
				"stack, so nobody is of a group: set %[1]s:signIn, or write %s", Project, name,
				everybody))
		}
	}

	if own := model.ParseName(s.Model.Name); c.EmbeddingModel != "" &&
		model.ParseName(c.EmbeddingModel).EqualFold(own) {
		errs = append(errs, fmt.Errorf("%s:knowledge.embedding: %s is the stack's own model, and "+
			"each version of it has other vectors: name another", Project, c.EmbeddingModel))
	}

	at := url("http", Knowledge, knowledgePort)
	edit(s, func(b *backendenv.Config) { b.KnowledgeURL = at })
	edit(s, func(g *gateenv.Config) {
		g.KnowledgeURL, g.Collections = at, contract.Models(c.Collections)
	})
	edit(s, func(m *mlenv.Config) { m.EmbeddingModel = c.EmbeddingModel })
	if b := s.Service(Backup); b != nil {
		edit(s, func(c *backupenv.Config) { c.KnowledgeURL = at })
		b.Calls = append(b.Calls, Knowledge)
	}
	return errors.Join(errs...)
}
