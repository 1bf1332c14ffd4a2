//go:build !unix

package pool

func descriptors() int { return manyDescriptors }
