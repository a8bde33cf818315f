// A library that the victim of trace_test loads late.
extern "C" int trace_test_late(int value) { return value + 2; }
