// Validates each file by the schema of its media type, as the image specification publishes it:
// image-spec MEDIA-TYPE FILE [MEDIA-TYPE FILE]…
package main

import (
	"fmt"
	"os"

	"github.com/opencontainers/image-spec/schema"
)

func main() {
	valid := true
	for arguments := os.Args[1:]; len(arguments) >= 2; arguments = arguments[2:] {
		file, err := os.Open(arguments[1])
		if err == nil {
			err = schema.Validator(arguments[0]).Validate(file)
		}
		if err == nil {
			fmt.Println("valid")
			continue
		}
		valid = false
		fmt.Printf("invalid: %q\n", err.Error())
	}
	if !valid {
		os.Exit(1)
	}
}
