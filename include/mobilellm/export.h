/// Marks the symbols that the library exports.
#pragma once

#if defined(_WIN32)
#if defined(MOBILELLM_BUILDING)
#define MOBILELLM_API __declspec(dllexport)
#else
#define MOBILELLM_API __declspec(dllimport)
#endif
#else
#define MOBILELLM_API __attribute__((visibility("default")))
#endif
