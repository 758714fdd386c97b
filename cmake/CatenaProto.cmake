# Messages of proto/.
find_package(Protobuf REQUIRED)

# catena_proto(TARGET NAME): a library of what proto/NAME.proto says. Its code
# is made here, and is not ours to warn of: #include <NAME.pb.h>.
function(catena_proto target name)
  set(folder ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(
    OUTPUT ${folder}/${name}.pb.cc ${folder}/${name}.pb.h
    COMMAND protobuf::protoc --proto_path=${CMAKE_SOURCE_DIR}/proto
      --cpp_out=${folder} ${name}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/${name}.proto)
  add_library(${target} STATIC ${folder}/${name}.pb.cc)
  target_link_libraries(${target} PUBLIC protobuf::libprotobuf
    PRIVATE catena_options)
  target_include_directories(${target} SYSTEM PUBLIC ${folder})
  target_compile_options(${target} PRIVATE -w)
endfunction()
