# cmake --install, and a tarball by cpack: programs, and the libraries they need
# but the C library's, the driver's and Open MPI's (whose plug-ins it finds by
# its own path). All is found from where the programs are, wherever that is.
include(GNUInstallDirs)
set(libraries ${CMAKE_INSTALL_LIBDIR}/catena)

foreach(program catena catena-train)
  set_target_properties(${program} PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${libraries}")
  # RPATH, not RUNPATH: it holds for what libraries load, too.
  target_link_options(${program} PRIVATE LINKER:--disable-new-dtags)
endforeach()
install(TARGETS catena catena-train RUNTIME_DEPENDENCY_SET catena_libraries
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET catena_cuda)
  # Loaded from beside the program.
  install(TARGETS catena_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(RUNTIME_DEPENDENCY_SET catena_libraries
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv|util)\\.so"
    "^libcuda\\.so" "^libmpi" "^libopen-(rte|pal)"
  LIBRARY DESTINATION ${libraries})
install(DIRECTORY configs data DESTINATION ${CMAKE_INSTALL_DATADIR}/catena)
# But for the secret that deploy/kubernetes is given.
install(DIRECTORY deploy DESTINATION ${CMAKE_INSTALL_DATADIR}/catena
  USE_SOURCE_PERMISSIONS PATTERN token EXCLUDE)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_VENDOR Catena)
set(CPACK_STRIP_FILES ON)
include(CPack)
