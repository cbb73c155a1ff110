/// Entry points of the subcommands, one file each. They take the arguments after the command's name and return the exit
/// status; failures are thrown as Error.
#pragma once

namespace mobilellm::cli {

int run_generate(int argc, const char* const* argv);
int run_inspect(int argc, const char* const* argv);
int run_convert(int argc, const char* const* argv);
int run_quantize(int argc, const char* const* argv);
int run_perplexity(int argc, const char* const* argv);
int run_compare(int argc, const char* const* argv);
int run_summary(int argc, const char* const* argv);
int run_verify(int argc, const char* const* argv);
int run_tokenize(int argc, const char* const* argv);
int run_template(int argc, const char* const* argv);
int run_bench(int argc, const char* const* argv);
int run_doctor(int argc, const char* const* argv);

}  // namespace mobilellm::cli
