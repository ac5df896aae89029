package policy

var storageRules = []Rule{{
	ID:     "retained-volume",
	Reason: "conversations and models outlive the stack: a mistaken destroy must not delete them",
	Fix:    "keep RetainOnDelete, or the claims' retention policy Retain",
	check: func(p Plan) []Finding {
		var out []Finding
		for _, v := range p.Volumes {
			for _, what := range when(!v.Retained, "is deleted with the stack") {
				out = append(out, Finding{v.Name, what})
			}
		}
		return out
	},
}}
