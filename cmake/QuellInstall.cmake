# cmake --install gives a package that find_package(Quell) consumes.
include(CMakePackageConfigHelpers)
install(TARGETS quell EXPORT QuellTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS quell_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY quell/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/quell FILES_MATCHING PATTERN "*.h"
  PATTERN "train" EXCLUDE)  # not installed: it needs libtorch
install(EXPORT QuellTargets NAMESPACE Quell:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Quell)
configure_package_config_file(cmake/QuellConfig.cmake.in QuellConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Quell)
write_basic_package_version_file(QuellConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/QuellConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/QuellConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Quell)
