// A library that stands for NVIDIA's management library and NCCL where there
// are none: one GPU that answers and one that does not.

#include <cstdio>

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }

int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  std::snprintf(text, size, "580.65.06");
  return 0;
}

int nvmlSystemGetCudaDriverVersion(int* version) {
  *version = 13010;
  return 0;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  static int gpu = 0;
  *device = &gpu;
  return index == 0 ? 0 : 15;
}

int nvmlDeviceGetName(void*, char* text, unsigned size) {
  std::snprintf(text, size, "NVIDIA Fake");
  return 0;
}

int nvmlDeviceGetMemoryInfo(void*, unsigned long long* memory) {
  memory[0] = 80ULL << 30;
  memory[1] = 75ULL << 30;
  memory[2] = 5ULL << 30;
  return 0;
}

int nvmlDeviceGetUtilizationRates(void*, unsigned* rates) {
  rates[0] = 17;
  rates[1] = 3;
  return 0;
}

// nvmlDeviceGetTemperature is missing, as a newer function may be.

int ncclGetVersion(int* version) {
  *version = 22703;
  return 0;
}

}  // extern "C"
