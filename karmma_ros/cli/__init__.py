# SPDX-License-Identifier: Apache-2.0
"""The `karmma` command: `main` dispatches; a subcommand is a module with HELP, add_arguments(parser) and run(args)."""
