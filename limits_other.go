//go:build !unix

package multivalue

func descriptors() int { return manyDescriptors }
