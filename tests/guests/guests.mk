# SPDX-License-Identifier: MIT
# Small guests: flat binaries for the emulator cases.
GUESTS := $(patsubst tests/guests/%.asm,$(BUILD)/guests/%.bin,$(wildcard tests/guests/*.asm))

$(BUILD)/guests/%.bin: tests/guests/%.asm $(wildcard tests/guests/*.inc)
	@mkdir -p $(@D)
	@echo '  NASM  $@'
	$(QUIET)$(NASM) -f bin -Wall -I tests/guests/ $< -o $@
