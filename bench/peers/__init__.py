"""The engines that bench/compare measures beside mobilellm, and what it measures."""
