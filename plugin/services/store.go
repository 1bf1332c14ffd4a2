package services

import (
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/kube"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// service is the part of a Service that matters here. Only Services that have the annotation are kept.
type service struct {
	namespace, name string
	uid             types.UID // differs after a Service was deleted and created again: the new owner is told again
	text            string    // of the annotation
}

// store holds the Services that have the annotation. One reflector writes it, and deliver reads it.
type store = kube.Store[service]

// newStore returns an empty store for an annotation, whose text is cut to one byte more than most: it is still too long then.
func newStore(key string, most int) *store {
	return &store{
		Read:    func(obj any) (string, service, bool) { return readService(obj, key, most) },
		Same:    func(a, b service) bool { return a == b },
		Changed: make(chan struct{}, 1),
	}
}

// readService reads the part of a Service that matters, and whether it has the annotation. Objects of other types have no id.
func readService(obj any, key string, most int) (id string, now service, annotated bool) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return "", service{}, false
	}
	id = m.GetName() + "." + m.GetNamespace()
	text, annotated := m.GetAnnotations()[key]
	if !annotated {
		return id, service{}, false
	}
	if len(text) > most {
		text = strings.Clone(text[:most+1]) // a clone frees the rest, which may have 256 KiB
	}
	return id, service{m.GetNamespace(), m.GetName(), m.GetUID(), text}, true
}
