// Package arch holds the test that keeps the import rule of the project: which package may import which. It has no code.
package arch
